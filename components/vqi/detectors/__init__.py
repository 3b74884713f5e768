"""The detectors: one method a file, behind `vqi.detectors.interface.Detector`.

Names and settings live in `vqi.detectors.settings`, which needs no torch: configuration, command line and the KFP
drop-down read them there.
"""

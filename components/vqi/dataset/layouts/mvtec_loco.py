"""The layout of MVTec LOCO: that of MVTec AD with logical_anomalies and structural_anomalies, a folder of masks for
each photograph, and defects_config.json, which says from how many pixels on a defect counts as found whole (sPRO).

Bergmann et al., "Beyond Dents and Scratches", IJCV 130 (2022).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vqi.dataset.layouts.interface import Match, Options, Reading, Saturation, SourceFiles
from vqi.dataset.layouts.listing import counted
from vqi.dataset.layouts.mvtec import MVTec
from vqi.platform.errors import BadInput

CONFIG = "defects_config.json"


class MVTecLOCO(MVTec):
    """Reads the layout of MVTec LOCO."""

    name = "mvtec-loco"

    def detect(self, files: SourceFiles) -> Match:
        """Whether there is defects_config.json beside the folders of MVTec AD."""
        match = super().detect(files)
        if match.sureness and CONFIG in files:
            return Match(0.76, f"it has {CONFIG} beside train/good, as MVTec LOCO")
        return Match(0.0, f"The source has no {CONFIG} beside train/good, as layout mvtec-loco needs.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """As MVTec AD, with the saturation thresholds."""
        rules = _rules(files)
        note = (
            f"{CONFIG} has saturation thresholds of {counted(len(rules), 'defect type')}: sPRO (au_spro, au_spro_05) "
            "is measured beside AUPRO."
        )
        reading = super().read(files, options)
        return replace(reading, saturation=rules, notes=(*reading.notes, note))


def config_entry(rule: Saturation) -> dict[str, Any]:
    """A rule as CONFIG lists it."""
    threshold = rule.threshold if rule.relative or rule.threshold % 1 else int(rule.threshold)
    return {
        "defect_name": rule.name,
        "pixel_value": rule.value,
        "saturation_threshold": threshold,
        "relative_saturation": rule.relative,
    }


def _rules(files: SourceFiles) -> tuple[Saturation, ...]:
    entries = files.json(CONFIG, 1 << 20)
    try:
        rules = tuple(
            Saturation.from_dict(
                {
                    "name": entry["defect_name"],
                    "value": entry["pixel_value"],
                    "threshold": entry["saturation_threshold"],
                    "relative": entry["relative_saturation"],
                }
            )
            for entry in entries
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadInput(
            f"{CONFIG} is not a list of defect_name, pixel_value, saturation_threshold and relative_saturation "
            f"({type(error).__name__}: {error}); bring the file that MVTec LOCO comes with."
        ) from error
    if len({rule.value for rule in rules}) < len(rules):
        raise BadInput(f"{CONFIG} has one pixel_value twice; bring the file that MVTec LOCO comes with.")
    return rules

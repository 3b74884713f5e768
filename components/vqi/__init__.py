"""Visual quality inspection: from photographs to a checked, calibrated, exported defect detector."""

import os

# OpenMP reads it when torch loads, so every process of ours sets it here, before. Its waiting threads would spin, which
# takes the core from whoever else has work (images/README.md); a value that the user has set stands.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Pillow reads it when it loads. It would return the memory of every photograph to the system and take it anew for the
# next: two thirds of the processor time of decoding a JPEG of a megapixel. Four blocks are 64 MiB at most.
os.environ.setdefault("PILLOW_BLOCKS_MAX", "4")

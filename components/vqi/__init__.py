"""Visual quality inspection: from photographs to a checked, calibrated, exported defect detector."""

import os

# OpenMP reads it when torch loads, so every process of ours sets it here, before. Its waiting threads would spin, which
# takes the core from whoever else has work (images/README.md); a value that the user has set stands.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

"""Our detectors against anomalib's own networks: the same weights, the same images, the same memory bank, Gaussians or
components.

    python tests/oracle/against_anomalib.py --anomalib-python SCRATCH/bin/python --data DATA/cookie --weights resnet18.pth [--only cflow ...]

Exit code 0 where everything that should agree does, 1 otherwise. Where the two differ on purpose, the difference is
printed with its reason, and must be there. Differences are relative: the largest absolute one over the spread of
anomalib's values. SCRATCH is an environment with 'anomalib==2.7.*'; `make oracle` makes one. `--spoil NAME` shows that
a comparison can fail: whatever anomalib is given by such a name is changed by 1 %.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from comparison import THREADS, Comparison, Oracle
from draem import draem
from flows import flow
from indexed import indexed
from students import efficient_ad, stfpm

from vqi.dataset.reader import Dataset
from vqi.dataset.settings import DataSettings
from vqi.steps.ingest.settings import StepSettings
from vqi.steps.ingest.step import ingest

METHODS: dict[str, Callable[[Oracle], list[Comparison]]] = {
    **{name: partial(indexed, name) for name in ("patchcore", "padim", "dfm")},
    **{name: partial(flow, name) for name in ("fastflow", "cflow", "cs_flow")},
    "stfpm": stfpm,
    "efficient_ad small": partial(efficient_ad, "small"),
    "efficient_ad medium": partial(efficient_ad, "medium"),
    "draem": partial(draem, False),
    "draem with SSPCAB": partial(draem, True),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--anomalib-python", type=Path, required=True, help="interpreter of an environment with anomalib 2.7"
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder in MVTec layout")
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        help="ResNet-18's state dict with torchvision's keys, at least up to layer3",
    )
    parser.add_argument("--only", choices=sorted(METHODS), nargs="+", default=list(METHODS), help="some methods")
    parser.add_argument(
        "--spoil", default="", metavar="NAME", help="change what anomalib is given by a name that contains this"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)

    failed = compared = 0
    with tempfile.TemporaryDirectory() as scratch:
        stored = Path(scratch) / "dataset"
        data = DataSettings(source=str(arguments.data), layout="mvtec", calibration_fraction=0.0)
        ingest(StepSettings(name=arguments.data.name, data=data), dataset=stored)
        oracle = Oracle(
            arguments.anomalib_python,
            arguments.data,
            Dataset(stored),
            arguments.weights,
            Path(scratch),
            arguments.spoil,
        )
        for name in arguments.only:
            print(name, flush=True)
            with torch.no_grad():
                comparisons = METHODS[name](oracle)
            for comparison in comparisons:
                print(comparison, flush=True)
            compared += len(comparisons)
            failed += sum(not comparison.agrees for comparison in comparisons)
    methods = f"of {len(arguments.only)} of {len(METHODS)} methods, on {arguments.data.name}"
    print(
        f"{failed} of {compared} comparisons fail, {methods}"
        if failed
        else f"all {compared} comparisons hold, {methods}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

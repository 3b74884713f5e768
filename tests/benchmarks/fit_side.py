"""The fit of this project's side of a benchmark, as build_index does it where no normals are held out; without torch
where the method does without.

python fit_side.py TASK.json NETWORK INDEX
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from timing import peak_mib, seconds

from vqi.dataset.geometry import Geometry
from vqi.dataset.loading import InputBatches
from vqi.dataset.reader import Dataset
from vqi.detectors.calibration import cross_scores
from vqi.detectors.embeddings import Embeddings
from vqi.detectors.indexed import Indexed
from vqi.detectors.storage import load_for_index, save_index
from vqi.platform.devices import Compute


def fit(detector: Indexed, dataset: Dataset, geometry: Geometry, compute: Compute, calibrates: bool) -> dict[str, Any]:
    """Fit the detector's index; seconds and peak memory, with the threshold's scores where they are asked for: that is
    more than the other side makes."""
    result: dict[str, Any] = {}
    train = dataset.samples("train")
    embeddings = Embeddings(
        detector,
        lambda numbers: InputBatches(dataset, train, geometry, compute.batch_size, numbers=numbers),
        len(train),
        compute.batch_size,
    )
    with seconds(result, "calibrated_fit_seconds"):
        with seconds(result, "fit_seconds"):
            detector.begin_build(2)
            detector.index = detector.fit(embeddings.of(range(len(train))), len(train))
        if calibrates:
            cross_scores(detector, embeddings, [sample.path for sample in train])
    result["peak_mib"] = peak_mib()
    return result


def main(task: dict[str, Any], network: Path, index: Path) -> None:
    """Write the index and, beside it, `result.json`."""
    compute = Compute(precision=task.get("precision", "float32"), batch_size=task["batch_size"])
    detector = load_for_index(network, compute)
    start = peak_mib()
    geometry = Geometry(size=tuple(task["size"]))
    result = fit(detector, Dataset(Path(task["dataset"])), geometry, compute, task.get("calibrates", True))
    index.mkdir(parents=True, exist_ok=True)
    save_index(detector, index, network)
    (index / "result.json").write_text(json.dumps(result | {"start_mib": start}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]), Path(sys.argv[3]))

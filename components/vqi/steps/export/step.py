"""export: make the Bundle, and refuse it where it does not say what the detector says."""

from __future__ import annotations

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.image_statistics import evenly_chosen, false_alarm_rate, image_statistics, plausible_ranges
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.deployment.bundle import (
    Boxes,
    Calibration,
    CalibrationScore,
    DatasetEntry,
    DecodingEntry,
    GeometryEntry,
    Graph,
    Plausibility,
    Preprocessing,
    RangeEntry,
    Sidecar,
    Thresholds,
    Weights,
    file_entries,
    write_sidecar,
)
from vqi.deployment.graph_runtime import BACKENDS, GraphRuntime, open_graph
from vqi.deployment.parity import deviations, judge, largest_deviation, parity_samples
from vqi.detectors.compute import to_device
from vqi.evaluation import thresholds
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput, VqiError
from vqi.platform.files import whole_folder
from vqi.platform.logs import logger
from vqi.platform.progress import tracked
from vqi.platform.threads import decoding_threads
from vqi.tracking.runs import add_to_run

log = logger(__name__)

RESULTS = "results.json"
RESULTS_FORMAT = "vqi-results/1"
WARM_UP, TIMED = 2, 7
PACKAGES = ("vqi", "torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "openvino", "numpy", "pillow")


def export(
    *,
    dataset: Path,
    network: Path,
    index: Path,
    evaluation: Path,
    tolerance: float,
    bundle: Path,
    tracking_uri: str = "",
) -> dict[str, float]:
    """Write the bundle of a detector with the thresholds its evaluation chose; on the CPU and in float32, wherever it
    was trained.

    Returns what the bundle costs, and adds it to the evaluation's MLflow run where there is one. `tolerance` is the
    largest deviation the parity gate lets pass (formula: vqi.deployment.parity). Raises BadInput where the artefacts do
    not belong together, GateRefused where the gate says no: then nothing is written.
    """
    import torch

    from vqi.deployment.graph_export import export_graphs
    from vqi.detectors.storage import load_detector, read_network_notes

    data = Dataset(dataset)
    results = read_results(evaluation)
    notes = read_network_notes(network)
    if results["dataset_fingerprint"] != data.manifest.fingerprint:
        raise BadInput(
            f"The evaluation {evaluation} was made with another Dataset than {dataset}; evaluate with this one."
        )
    for part in ("method", "settings", "backbone", "weights", "seed"):
        if results[part] != notes[part]:
            raise BadInput(
                f"The evaluation {evaluation} is of another detector than {network} (its {part} differs); evaluate "
                "this one."
            )
    calibration = thresholds.read_calibration(index)
    if len(calibration.scores) != results["threshold"]["calibration_images"]:
        raise BadInput(
            f"The evaluation {evaluation} was made with another calibration than that of {index}; evaluate again."
        )
    geometry = Geometry.from_dict(notes["notes"]["geometry"])
    plausibility = plausibility_of(data, geometry)
    detector = load_detector(network, index).eval()
    with whole_folder(bundle) as folder:
        graph = export_graphs(detector, folder)
        samples = parity_samples(data.manifest.samples)
        images = np.stack([to_input(geometry.apply(data.image(sample))) for sample in samples])
        with torch.inference_mode():
            parts = [detector(torch.from_numpy(image[None])) for image in images]
            reference = (
                torch.cat([part.image for part in parts]).numpy(),
                torch.cat([part.map for part in parts]).numpy(),
            )
            shift = None
            if results["precision"] != "float32":
                calibrated = to_device(detector, Compute("cpu", results["precision"]))(
                    torch.from_numpy(images)
                ).image.numpy()
                shift = largest_deviation(calibrated, reference[0], float(np.median(np.abs(reference[0]))))
        sidecar = _sidecar(results, notes, data, geometry, calibration, plausibility, graph, shift, folder)
        graphs = {backend: open_graph(folder, sidecar, backend) for backend in BACKENDS}
        compared = [
            deviation
            for backend, runtime in graphs.items()
            for deviation in deviations(reference, backend, runtime.run, images, sidecar.thresholds.image)
        ]
        parity = judge(compared, tolerance, len(images))
        write_sidecar(folder, sidecar.model_copy(update={"parity": parity}))
        costs = {"latency_ms": latency_ms(graphs[BACKENDS[0]], images[0]), "bundle_mib": size_mib(folder)}
    if shift is not None:
        log.info(
            f"thresholds were taken in {results['precision']}: its scores deviate by up to {shift:.1e} from this "
            "float32 bundle"
        )
    worst = max(max(deviation.score, deviation.map) for deviation in compared)
    log.info(f"parity on {len(images)} images: largest deviation {worst:.1e}, tolerance {tolerance:g}")
    log.info(f"bundle of {costs['bundle_mib']:.1f} MiB, {costs['latency_ms']:.0f} ms an image by {BACKENDS[0]}")
    try:
        add_to_run(tracking_uri, results.get("tracking", {}).get("run_id", ""), costs)
    except VqiError as error:  # the bundle is made; a record can be done without
        log.warning(f"{error} The bundle is complete; what it costs is not in MLflow.")
    return costs


def latency_ms(graph: GraphRuntime, image: np.ndarray) -> float:
    """Milliseconds that one image, float32 [3, h, w], takes alone on this machine: the median of some runs after a
    warm-up."""
    seconds = []
    for _ in range(WARM_UP + TIMED):
        started = time.perf_counter()
        graph.run(image[None])
        seconds.append(time.perf_counter() - started)
    return round(1000 * statistics.median(seconds[WARM_UP:]), 3)


def size_mib(folder: Path) -> float:
    """The size of a folder's files, MiB."""
    return round(sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 2**20, 3)


def read_results(evaluation: Path) -> dict[str, Any]:
    """`results.json` of an evaluation. Raises BadInput where it is missing or of another format."""
    path = Path(evaluation) / RESULTS
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if results["format"] != RESULTS_FORMAT:
            raise BadInput(
                f"{path} has format {results['format']!r}, this version reads {RESULTS_FORMAT!r}; evaluate again."
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} is not a readable result of an evaluation ({type(error).__name__}); evaluate again."
        ) from error
    return results


def plausibility_of(data: Dataset, geometry: Geometry) -> Plausibility:
    """What good photographs of the set are like: of those that are not tested with, as many as are examined at most,
    evenly chosen.
    """
    normals = data.samples(("train", "labelled", "calibration", "validation"), "good")
    chosen = [normals[number] for number in evenly_chosen(len(normals))]
    with ThreadPoolExecutor(decoding_threads()) as pool:
        rows = list(
            tracked(
                pool.map(lambda sample: _statistics(data, sample, geometry), chosen),
                "export: image statistics",
                len(chosen),
            )
        )
    rate = false_alarm_rate(rows)
    ranges = {name: RangeEntry(**asdict(limit)) for name, limit in plausible_ranges(rows).items()}
    log.info(
        f"plausible photographs are like {len(rows)} of the {len(normals)} good ones: about {100 * rate:.2g} % of "
        "good photographs, or fewer, "
        "are expected outside"
    )
    return Plausibility(images=len(rows), normals=len(normals), false_alarm_rate=rate, ranges=ranges)


def _statistics(data: Dataset, sample: Sample, geometry: Geometry) -> dict[str, float]:
    image = data.image(sample)
    return image_statistics(geometry.apply(image), image.shape[:2])


def _sidecar(
    results: dict[str, Any],
    notes: dict[str, Any],
    data: Dataset,
    geometry: Geometry,
    calibration: thresholds.Calibration,
    plausibility: Plausibility,
    graph: Graph,
    shift: float | None,
    folder: Path,
) -> Sidecar:
    threshold = results["threshold"]
    backbone = {key: value for key, value in notes["backbone"].items() if key not in ("weights", "sha256")}
    return Sidecar(
        name=data.manifest.name,
        method=notes["method"],
        settings=notes["settings"],
        backbone=backbone,
        weights=Weights(**notes["weights"]),
        seed=notes["seed"],
        dataset=DatasetEntry(name=data.manifest.name, fingerprint=data.manifest.fingerprint),
        preprocessing=Preprocessing(
            decoding=DecodingEntry(**asdict(data.manifest.decoding)), geometry=GeometryEntry(**geometry.to_dict())
        ),
        graph=graph,
        thresholds=Thresholds(image=threshold["image"], pixel=threshold["pixel"], floor=threshold["floor"]),
        boxes=Boxes(**results.get("boxes", {})),
        calibration=Calibration(
            precision=results["precision"],
            precision_shift=shift,
            kind=threshold["kind"],
            images=threshold["calibration_images"],
            folds=threshold["folds"],
            requested_false_reject_rate=threshold["requested_false_reject_rate"],
            false_reject_rate=threshold["false_reject_rate"],
            guarantee=threshold["guarantee"],
            scores=[
                CalibrationScore(score=score, map_max=maximum, map_median=median)
                for score, maximum, median in zip(
                    calibration.scores, calibration.map_maxima, calibration.map_medians, strict=True
                )
            ],
        ),
        plausibility=plausibility,
        metrics={name: value for name, value in results["metrics"].items() if value is not None},
        parity={},
        versions={package: version(package) for package in PACKAGES},
        files=file_entries(folder),
    )

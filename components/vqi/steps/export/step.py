"""export: make the Bundle, and refuse it where it does not say what the detector says."""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.image_statistics import evenly_chosen, false_alarm_rate, image_statistics, plausible_ranges
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.deployment.bundle import (
    Calibration,
    CalibrationScore,
    DatasetEntry,
    DecodingEntry,
    Graph,
    Plausibility,
    Preprocessing,
    RangeEntry,
    Sidecar,
    Thresholds,
    file_entries,
    write_sidecar,
)
from vqi.deployment.costs import BundleCosts
from vqi.deployment.graph_runtime import BACKENDS, GraphRuntime, open_graph
from vqi.deployment.parity import deviations, judge, largest_deviation, parity_samples
from vqi.detectors.compute import to_device
from vqi.detectors.storage import NetworkRecord, load_detector, read_network
from vqi.evaluation.calibration import Calibration as Evidence
from vqi.evaluation.calibration import read_calibration
from vqi.evaluation.records import Results, read_results
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput, VqiError
from vqi.platform.files import whole_folder
from vqi.platform.progress import tracked
from vqi.platform.threads import decoding_threads
from vqi.tracking.runs import add_to_run
from vqi.training.record import notes_of

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
) -> BundleCosts:
    """Write the bundle of a detector with the thresholds its evaluation chose; on the CPU and in float32, wherever it
    was trained.

    Returns what the bundle costs, and adds it to the evaluation's MLflow run where there is one. `tolerance` is the
    largest deviation the parity gate lets pass (formula: vqi.deployment.parity). Raises BadInput where the artefacts do
    not belong together, GateRefused where the gate says no: then nothing is written.
    """
    import torch

    from vqi.deployment.graph_export import export_graphs

    data = Dataset(dataset)
    results = read_results(evaluation)
    record = read_network(network)
    if results.dataset_fingerprint != data.manifest.fingerprint:
        raise BadInput(
            f"The evaluation {evaluation} was made with another Dataset than {dataset}; evaluate with this one."
        )
    for part in ("method", "settings", "backbone", "weights", "seed"):
        if getattr(results, part) != getattr(record, part):
            raise BadInput(
                f"The evaluation {evaluation} is of another detector than {network} (its {part} differs); evaluate "
                "this one."
            )
    calibration = read_calibration(index)
    if len(calibration.scores) != results.threshold.calibration_images:
        raise BadInput(
            f"The evaluation {evaluation} was made with another calibration than that of {index}; evaluate again."
        )
    geometry = notes_of(record, network).geometry.geometry
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
            if results.precision != "float32":
                calibrated = to_device(detector, Compute("cpu", results.precision))(
                    torch.from_numpy(images)
                ).image.numpy()
                shift = largest_deviation(calibrated, reference[0], float(np.median(np.abs(reference[0]))))
        sidecar = _sidecar(results, record, data, geometry, calibration, plausibility, graph, shift, folder)
        graphs = {backend: open_graph(folder, sidecar, backend) for backend in BACKENDS}
        compared = [
            deviation
            for backend, runtime in graphs.items()
            for deviation in deviations(reference, backend, runtime.run, images, sidecar.thresholds.image)
        ]
        parity = judge(compared, tolerance, len(images))
        write_sidecar(folder, sidecar.model_copy(update={"parity": parity}))
        costs = BundleCosts(latency_ms=latency_ms(graphs[BACKENDS[0]], images[0]), bundle_mib=size_mib(folder))
    if shift is not None:
        print(
            f"thresholds were taken in {results.precision}: its scores deviate by up to {shift:.1e} from this "
            "float32 bundle",
            file=sys.stderr,
        )
    worst = max(max(deviation.score, deviation.map) for deviation in compared)
    print(f"parity on {len(images)} images: largest deviation {worst:.1e}, tolerance {tolerance:g}", file=sys.stderr)
    print(
        f"bundle of {costs.bundle_mib:.1f} MiB, {costs.latency_ms:.0f} ms an image by {BACKENDS[0]}",
        file=sys.stderr,
    )
    try:
        add_to_run(tracking_uri, results.run_id, costs.values())
    except VqiError as error:  # the bundle is made; a record can be done without
        print(f"{error} The bundle is complete; what it costs is not in MLflow.", file=sys.stderr)
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
    print(
        f"plausible photographs are like {len(rows)} of the {len(normals)} good ones: about {100 * rate:.2g} % of "
        "good photographs, or fewer, "
        "are expected outside",
        file=sys.stderr,
    )
    return Plausibility(images=len(rows), normals=len(normals), false_alarm_rate=rate, ranges=ranges)


def _statistics(data: Dataset, sample: Sample, geometry: Geometry) -> dict[str, float]:
    image = data.image(sample)
    return image_statistics(geometry.apply(image), image.shape[:2])


def _sidecar(
    results: Results,
    record: NetworkRecord,
    data: Dataset,
    geometry: Geometry,
    calibration: Evidence,
    plausibility: Plausibility,
    graph: Graph,
    shift: float | None,
    folder: Path,
) -> Sidecar:
    threshold = results.threshold
    return Sidecar(
        name=data.manifest.name,
        method=record.method,
        settings=record.settings,
        backbone=record.backbone.model_dump(mode="json", exclude={"weights", "sha256"}),
        weights=record.weights,
        seed=record.seed,
        dataset=DatasetEntry(name=data.manifest.name, fingerprint=data.manifest.fingerprint),
        preprocessing=Preprocessing(decoding=DecodingEntry(**asdict(data.manifest.decoding)), geometry=geometry.entry),
        graph=graph,
        thresholds=Thresholds(image=threshold.image, pixel=threshold.pixel, floor=threshold.floor),
        boxes=results.boxes,
        calibration=Calibration(
            precision=results.precision,
            precision_shift=shift,
            kind=threshold.kind,
            images=threshold.calibration_images,
            folds=threshold.folds,
            requested_false_reject_rate=threshold.requested_false_reject_rate,
            false_reject_rate=threshold.false_reject_rate,
            guarantee=threshold.guarantee,
            scores=[
                CalibrationScore(score=score, map_max=maximum, map_median=median)
                for score, maximum, median in zip(
                    calibration.scores, calibration.map_maxima, calibration.map_medians, strict=True
                )
            ],
        ),
        plausibility=plausibility,
        metrics={name: value for name, value in results.metrics.values().items() if value is not None},
        parity={},
        versions={package: version(package) for package in PACKAGES},
        files=file_entries(folder),
    )

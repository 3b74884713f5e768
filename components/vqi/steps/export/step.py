"""export: make the Bundle, and refuse it where it does not say what the detector says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.image_statistics import evenly_chosen, false_alarm_rate, image_statistics, plausible_ranges
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.deployment.bench_record import machine_in_use
from vqi.deployment.bundle import format_files, shared_files, write_sidecar
from vqi.deployment.costs import BundleCosts
from vqi.deployment.exports import ExportFormat, check_formats, graphs_of, preferred, wrappers_of
from vqi.deployment.exports.export_format import Note
from vqi.deployment.golden import write_golden
from vqi.deployment.graph_runtime import open_format, read_index
from vqi.deployment.parity import (
    FORMULA,
    TimedRun,
    deviations,
    judge,
    largest_deviation,
    latency_together,
    parity_samples,
    reference_of,
)
from vqi.deployment.sidecar import (
    Calibration,
    CalibrationScore,
    DatasetEntry,
    DecodingEntry,
    FormatEntry,
    Golden,
    Graph,
    LeftOut,
    Parity,
    Plausibility,
    Preprocessing,
    RangeEntry,
    ReferenceEntry,
    Sidecar,
    Thresholds,
)
from vqi.detectors.compute import to_device
from vqi.detectors.interface import Scores
from vqi.detectors.storage import NetworkRecord, load_detector, read_network
from vqi.evaluation.calibration import Calibration as Evidence
from vqi.evaluation.calibration import calibration_of, read_calibration_record
from vqi.evaluation.predictions import read_scores
from vqi.evaluation.records import PREDICTIONS, REPORT, Results, read_results
from vqi.platform.devices import Compute, Precision
from vqi.platform.errors import BadInput, GateRefused, VqiError
from vqi.platform.files import whole_folder, write_whole
from vqi.platform.logs import logger
from vqi.platform.progress import tracked
from vqi.platform.threads import decoding_threads
from vqi.registry.registering import register_bundle
from vqi.steps.export.accuracy import Judged, judge_accuracy
from vqi.steps.export.left_out import scored_left_out
from vqi.steps.export.page import PAGE, bundle_page, complete_report, format_metrics
from vqi.steps.export.settings import StepSettings
from vqi.steps.export.wrapping import add_wrapper
from vqi.tracking.runs import add_to_run
from vqi.tracking.settings import ExperimentSettings
from vqi.training.record import notes_of

log = logger(__name__)

# Two ways through the same layers in bfloat16, which rounds to 8 bits after each.
BFLOAT16_TOLERANCE = 0.01
PACKAGES = ("vqi", "torch", "torchvision", "numpy", "pillow")


def export(
    settings: StepSettings,
    *,
    dataset: Path,
    network: Path,
    index: Path,
    evaluation: Path,
    bundle: Path,
    report: Path | None = None,
    dataset_address: str = "",
) -> BundleCosts:
    """Write the bundle of a detector with the thresholds its evaluation chose; on the CPU, from the float32 detector,
    wherever it was trained.

    The page `bundle.html` in it has the figures of each format, and so has `report`, which is the evaluation's with
    them. Returns what the bundle costs, and adds it to the evaluation's MLflow run where there is one, with those
    figures and that report. `export.formats` are the export formats the graph is written in; one that the test split
    judges too inaccurate (`export.int8_max_drop`) is left out. `export.tolerance` is the largest deviation the parity
    gate lets pass (formula: vqi.deployment.parity) of a format that states none of its own.
    `dataset_address` is where whoever promotes the bundle later has the Dataset. Raises BadInput where the artefacts do
    not belong together or a format does not exist, RunFailed where one cannot be written or opened, GateRefused where
    the gate says no: then nothing is written. RunFailed where the bundle cannot be registered: it is written all the
    same.
    """
    formats = check_formats(settings.export.formats, writable=True)
    chosen = graphs_of(formats)

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
    calibration_rows = read_calibration_record(index)
    calibration = calibration_of(calibration_rows)
    if len(calibration.scores) != results.threshold.calibration_images:
        raise BadInput(
            f"The evaluation {evaluation} was made with another calibration than that of {index}; evaluate again."
        )
    geometry = notes_of(record, network).geometry
    plausibility = plausibility_of(data, geometry)
    detector = load_detector(network, index).eval()
    with whole_folder(bundle) as folder:
        graph, format_notes, precisions = export_graphs(detector, folder, chosen, TrainingNormals(data, geometry))
        scores = read_scores(evaluation / PREDICTIONS)
        samples = parity_samples(data.manifest.samples, scores=scores, threshold=results.threshold.image)
        seen = np.stack([data.one_input(sample, geometry) for sample in samples])
        images = to_input(seen)
        # Torch says what is right; in reduced precision the engine does, which the thresholds were taken with.
        engine, detector.engine = detector.engine, None
        with torch.inference_mode():
            inputs = torch.from_numpy(images)
            references: dict[Precision, tuple[np.ndarray, np.ndarray]] = {
                "float32": _reference([detector(image[None]) for image in inputs])
            }
            shift = None
            if results.precision != "float32":
                if engine and engine.precision == results.precision:
                    reduced = [detector.score(row[None], detector.index) for row in engine.embedding(inputs)]
                else:
                    reduced = [to_device(detector, Compute(device="cpu", precision=results.precision))(inputs)]
                references[results.precision] = _reference(reduced)
                usual = float(np.median(np.abs(references["float32"][0])))
                shift = largest_deviation(references[results.precision][0], references["float32"][0], usual)
        entries: dict[str, FormatEntry] = {}
        left_out: dict[str, LeftOut] = {}
        for export_format in chosen:
            name = export_format.name
            entry = check_format(
                export_format,
                folder,
                graph,
                format_notes[name],
                precisions[name],
                reference_of(precisions[name], references),
                images,
                results.threshold.image,
                settings.export.tolerance,
            )
            reason = ""
            if export_format.judged_by_accuracy:
                # By which the index was built.
                detector.engine = engine
                folds = scored_left_out(export_format, folder, graph, detector, data, geometry, calibration_rows)
                judged = judge_accuracy(
                    open_format(export_format, folder, graph),
                    graph.batch_size,
                    data,
                    geometry,
                    results,
                    scores,
                    calibration_rows,
                    settings.export.int8_max_drop,
                    folds,
                )
                entry, reason = _with_accuracy(entry, judged), judged.reason or _far_off(entry)
            if reason:
                left_out[name] = _left_out(entry, reason)
                _remove(export_format, folder)
                log.warning(f"the bundle goes without {name}: {reason}")
            else:
                entries[name] = entry
        if not entries:
            raise GateRefused(
                f"No format of export.formats may be in the bundle ({next(iter(left_out.values())).reason}); name "
                "another beside it."
            )
        chosen = tuple(export_format for export_format in chosen if export_format.name in entries)
        write_golden(folder, seen)
        golden = Golden(scores={precision: part[0].tolist() for precision, part in references.items()})
        parity = Parity(formula=FORMULA, images=len(images))
        wrappers = wrappers_of(formats)
        described = (shift, golden, graph, parity, entries, left_out, package_versions((*chosen, *wrappers)), folder)
        sidecar = _sidecar(results, record, data, geometry, calibration, plausibility, *described)
        write_sidecar(folder, sidecar)
        photographs = [bytes(data.bytes_of(sample.image)) for sample in samples] if wrappers else []
        for wrapper in wrappers:
            entries[wrapper.name] = add_wrapper(wrapper, folder, sidecar, photographs)
            sidecar = sidecar.model_copy(update={"formats": dict(entries)})
            write_sidecar(folder, sidecar)
        machine = machine_in_use()
        write_whole(folder / PAGE, bundle_page(sidecar, machine))
        quickest = entries[preferred(chosen)[0].name]
        costs = BundleCosts(latency_ms=quickest.latency_ms or 0.0, bundle_mib=size_mib(folder))
    if shift is not None:
        log.info(
            f"thresholds were taken in {results.precision}: scores of what computes in float32 deviate by up to "
            f"{shift:.1e} from it"
        )
    log.info(f"parity on {len(images)} images:")
    for name, entry in entries.items():
        log.info(
            f"  {name}: largest deviation {entry.largest_deviation:.1e}, tolerance {entry.tolerance:g}; "
            f"{entry.flipped} decisions differ; {entry.size_mib:.1f} MiB, {entry.latency_ms:.1f} ms an image alone and "
            f"{entry.latency_8_ms:.1f} ms eight together by {entry.backend}"
        )
        if accuracy := entry.accuracy:
            log.info(
                f"    on the test split: image AUROC {_shown(accuracy.image_auroc)}, pixel AUROC "
                f"{_shown(accuracy.pixel_auroc)}, AUPRO {_shown(accuracy.aupro)}, right decisions "
                f"{_shown(accuracy.accuracy)}; {accuracy.differ} of {accuracy.images} decided otherwise than by the "
                f"detector; thresholds: {entry.notes['thresholds']}"
            )
    log.info(f"bundle of {costs.bundle_mib:.1f} MiB")
    page = complete_report(evaluation / REPORT, sidecar, machine)
    if report:
        write_whole(report, page)
    try:
        with TemporaryDirectory(prefix="vqi-report-") as folder:
            (Path(folder) / REPORT).write_text(page, encoding="utf-8")
            figures = {**costs.values(), **format_metrics(sidecar)}
            add_to_run(settings.tracking_uri, results.run_id, figures, [Path(folder) / REPORT])
    except VqiError as error:  # the bundle is made; a record can be done without
        log.warning(f"{error} The bundle is complete; what it costs is not in MLflow.")
    if settings.registered_name:
        experiment = settings.experiment or ExperimentSettings().experiment
        version, new = register_bundle(
            bundle, settings.registered_name, settings.tracking_uri, experiment, results.run_id, dataset_address
        )
        log.info(f"{'registered as' if new else 'registered already:'} models:/{version}")
    return costs


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _reference(parts: Sequence[Scores]) -> tuple[np.ndarray, np.ndarray]:
    """Scores [n] and maps [n, h, w] of a detector."""
    return np.concatenate([part.image.numpy() for part in parts]), np.concatenate([part.map.numpy() for part in parts])


def check_format(
    export_format: ExportFormat,
    folder: Path,
    graph: Graph,
    notes: dict[str, Note],
    precision: str,
    reference: tuple[np.ndarray, np.ndarray],
    images: np.ndarray,
    threshold: float,
    tolerance: float,
) -> FormatEntry:
    """Open what a format wrote, hold it against the `reference` scores and maps of `images`, and describe it.

    `tolerance` is that of formats that state none. Where the gate refuses a graph that takes a shortcut, the one that
    takes none is tried. Raises RunFailed where it cannot be opened or run, GateRefused where the gate says no.
    """
    if export_format.tolerance is not None:
        tolerance = export_format.tolerance
    if precision == "bfloat16":
        tolerance = max(tolerance, BFLOAT16_TOLERANCE)
    format_files(export_format, folder)  # which says what is missing
    index = read_index(folder, graph)
    notes = {**notes, **export_format.prove(folder, graph.input_size, index, images)}
    timed = TimedRun(open_format(export_format, folder, graph).run)
    measured = list(deviations(reference, timed, images, threshold))
    judged_later = export_format.judged_by_accuracy
    try:
        judge(export_format.name, measured, math.inf if judged_later else tolerance, len(images), judged_later)
    except GateRefused as refusal:
        if not export_format.make_exact(folder):
            raise
        log.warning(f"with a shortcut: {refusal} The graph without it, which takes longer, is tried now.")
        notes = {**notes, **export_format.prove(folder, graph.input_size, index, images)}
        timed = TimedRun(open_format(export_format, folder, graph).run)
        measured = list(deviations(reference, timed, images, threshold))
        judge(export_format.name, measured, tolerance, len(images))
    return FormatEntry(
        backend=export_format.backend,
        precision=precision,
        install=export_format.install,
        tolerance=tolerance,
        deviations=measured,
        latency_ms=timed.latency_ms,
        latency_8_ms=latency_together(timed.run, images, graph.batch_size),
        notes=notes,
        files=format_files(export_format, folder),
    )


def _with_accuracy(entry: FormatEntry, judged: Judged) -> FormatEntry:
    """The entry of a format that the test split judged; whose thresholds it has is one of its notes."""
    own = "its own, from what it scores the calibration photographs"
    shared = "the detector's: what they promise is not known to hold for it"
    notes = {**entry.notes, "thresholds": own if judged.own else shared}
    return entry.model_copy(update={"accuracy": judged.accuracy, "own": judged.own, "notes": notes})


def _far_off(entry: FormatEntry) -> str:
    """Why a format that the test split judges fails at the parity gate; "" where it passes."""
    if entry.largest_deviation <= entry.tolerance:
        return ""
    return f"its scores or maps deviate by {entry.largest_deviation:.2g}, the tolerance is {entry.tolerance:g}"


def _left_out(entry: FormatEntry, reason: str) -> LeftOut:
    figures = {name: getattr(entry, name) for name in ("latency_ms", "latency_8_ms", "deviations", "accuracy")}
    return LeftOut(reason=reason, size_mib=round(entry.size_mib, 3), **figures)


def _remove(export_format: ExportFormat, folder: Path) -> None:
    """Take a format's files out of the bundle `folder`, and the folders that they leave empty."""
    for name in format_files(export_format, folder):
        file = folder / name
        file.unlink()
        if file.parent != folder and not any(file.parent.iterdir()):
            file.parent.rmdir()


class TrainingNormals:
    """The training normals as the network sees them, float32 [3, h, w], decoded as they are taken."""

    def __init__(self, data: Dataset, geometry: Geometry) -> None:
        self._data, self._geometry = data, geometry
        self._samples = data.samples("train", "good")

    def __len__(self) -> int:
        return len(self._samples) * self._geometry.inputs

    def __iter__(self) -> Iterator[np.ndarray]:
        return (to_input(image) for sample in self._samples for image in self._data.inputs(sample, self._geometry))


def package_versions(formats: Sequence[ExportFormat]) -> dict[str, str]:
    """The versions of what the graph was made with, by package; those that a format names by a module alone are left
    out where no package is called like it."""
    packages = [
        *PACKAGES,
        *(
            name
            for export_format in formats
            for name in (
                export_format.install.partition("[")[0],
                *export_format.writes_with,
                *export_format.opens_with,
            )
        ),
    ]
    installed: dict[str, str] = {}
    for package in packages:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


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
    log.info(
        f"plausible photographs are like {len(rows)} of the {len(normals)} good ones: about {100 * rate:.2g} % of "
        "good photographs, or fewer, "
        "are expected outside"
    )
    return Plausibility(images=len(rows), normals=len(normals), false_alarm_rate=rate, ranges=ranges)


def _statistics(data: Dataset, sample: Sample, geometry: Geometry) -> dict[str, float]:
    image = data.image(sample)
    return image_statistics(geometry.apply(data.aligned(sample, image)), image.shape[:2])


def _sidecar(
    results: Results,
    record: NetworkRecord,
    data: Dataset,
    geometry: Geometry,
    calibration: Evidence,
    plausibility: Plausibility,
    shift: float | None,
    golden: Golden,
    graph: Graph,
    parity: Parity,
    formats: dict[str, FormatEntry],
    left_out: dict[str, LeftOut],
    versions: dict[str, str],
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
        preprocessing=Preprocessing(
            decoding=DecodingEntry(**asdict(data.manifest.decoding)),
            geometry=geometry,
            alignment=ReferenceEntry(**asdict(data.manifest.reference)) if data.manifest.reference else None,
        ),
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
        parity=parity,
        formats=formats,
        left_out=left_out,
        versions=versions,
        golden=golden,
        files=shared_files(folder),
    )

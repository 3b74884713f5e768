"""A small detector with a memory bank, and its bundle: real graphs of both default formats in a few kilobytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vqi.dataset.decoding import DEFAULT
from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.image_statistics import false_alarm_rate, image_statistics, plausible_ranges
from vqi.deployment.bundle import format_files, shared_files, write_sidecar
from vqi.deployment.exports import DEFAULT_FORMATS, ExportFormat, check_formats
from vqi.deployment.golden import write_golden
from vqi.deployment.graph_export import ExportedGraphs, export_graphs
from vqi.deployment.sidecar import (
    Calibration,
    CalibrationScore,
    DatasetEntry,
    DecodingEntry,
    Deviation,
    FormatEntry,
    Golden,
    Parity,
    Plausibility,
    Preprocessing,
    RangeEntry,
    Sidecar,
    Thresholds,
)
from vqi.detectors.interface import Detector, Scores
from vqi.evaluation.box_rule import Boxes
from vqi.storage.weights import WeightsOrigin

GEOMETRY = Geometry(size=(64, 64), crop=(48, 56))


class ToyDetector(Detector):
    """Nearest neighbour of 8 x 8 cells in a bank of normal cells."""

    method = "toy"

    def embed(self, images: Tensor) -> Tensor:
        return self.backbone(images).flatten(2).transpose(1, 2)

    def fit(self, embeddings: Iterable[Tensor], images: int) -> dict[str, Tensor]:
        return {"bank": torch.cat([batch.flatten(0, 1) for batch in embeddings]).contiguous()}

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        bank = index["bank"]
        images, _, width = embedding.shape
        query = embedding.reshape(-1, width)
        squared = query.square().sum(1, keepdim=True) - 2 * query @ bank.T + bank.square().sum(1)
        height, across = self.input_size
        nearest = squared.amin(1).clamp_min(0).sqrt().reshape(images, 1, height // 8, across // 8)
        scaled = nn.functional.interpolate(nearest, size=self.input_size, mode="bilinear", align_corners=False)
        return Scores(nearest.flatten(1).amax(1), scaled[:, 0])


def photograph(seed: int, defect: bool = False) -> np.ndarray:
    """A grey plate, uint8 [80, 96, 3]; the defect is a bright red patch at rows 30-50, columns 40-60."""
    plate = np.random.default_rng(seed).normal(120, 6, (80, 96, 3)).clip(0, 255).astype(np.uint8)
    if defect:
        plate[30:50, 40:60] = (230, 40, 40)
    return plate


def toy_detector(kind: type[Detector] = ToyDetector) -> Detector:
    torch.manual_seed(0)
    detector = kind(None, nn.Conv2d(3, 16, 8, stride=8), GEOMETRY.input_size).eval()
    normals = [torch.from_numpy(to_input(GEOMETRY.apply(photograph(seed)))[None]) for seed in range(8)]
    detector.build_index(normals)  # type: ignore[arg-type]
    return detector


def toy_plausibility() -> Plausibility:
    """What the eight normals are like."""
    rows = [image_statistics(GEOMETRY.apply(photograph(seed)), (80, 96)) for seed in range(8)]
    ranges = {name: RangeEntry(**asdict(limit)) for name, limit in plausible_ranges(rows).items()}
    return Plausibility(images=8, normals=8, false_alarm_rate=false_alarm_rate(rows), ranges=ranges)


def toy_entry(folder: Path, export_format: ExportFormat, exported: ExportedGraphs) -> FormatEntry:
    return FormatEntry(
        backend=export_format.backend,
        precision=export_format.precision,
        install=export_format.install,
        tolerance=1e-3,
        deviations=[Deviation(batch=1, score=2e-6, map=3e-6, flipped=0)],
        latency_ms=1.0,
        notes=exported.notes[export_format.name],
        files=format_files(export_format, folder),
    )


def toy_sidecar(
    folder: Path,
    exported: ExportedGraphs,
    threshold: float,
    scores: list[CalibrationScore],
    formats: Sequence[ExportFormat],
    golden: Golden | None = None,
) -> Sidecar:
    return Sidecar(
        name="plates",
        method="toy",
        settings={},
        backbone={"name": "conv"},
        weights=WeightsOrigin(kind="random", label="random (seed 0)", sha256=""),
        seed=0,
        dataset=DatasetEntry(name="plates", fingerprint="0" * 64),
        preprocessing=Preprocessing(decoding=DecodingEntry(**asdict(DEFAULT)), geometry=GEOMETRY),
        graph=exported.graph,
        thresholds=Thresholds(image=threshold, pixel=threshold),
        boxes=Boxes(),
        plausibility=toy_plausibility(),
        calibration=Calibration(
            precision="float32",
            precision_shift=None,
            kind="split",
            images=8,
            folds=None,
            requested_false_reject_rate=0.01,
            false_reject_rate=1 / 9,
            guarantee="At most 1 of 9 normals is rejected.",
            scores=scores,
        ),
        metrics={},
        parity=Parity(formula="toy", images=1),
        formats={one.name: toy_entry(folder, one, exported) for one in formats},
        versions={"vqi": "0"},
        golden=golden,
        files=shared_files(folder),
    )


def write_toy_bundle(folder: Path, formats: Sequence[str] = DEFAULT_FORMATS) -> None:
    """A complete bundle whose threshold lies between the normals' scores and the defects'."""
    detector = toy_detector()

    def scored(seed: int, defect: bool = False) -> CalibrationScore:
        with torch.inference_mode():
            image, values = detector(torch.from_numpy(to_input(GEOMETRY.apply(photograph(seed, defect)))[None]))
        return CalibrationScore(score=float(image), map_max=float(values.max()), map_median=float(values.median()))

    golden = [photograph(99), photograph(99, True)]
    write_golden(folder, np.stack([GEOMETRY.apply(image) for image in golden]))
    threshold = (scored(99).score + scored(99, True).score) / 2
    chosen = check_formats(formats)
    exported = export_graphs(detector, folder, chosen)
    calibration = [scored(seed) for seed in range(100, 108)]
    golden_scores = Golden(scores={"float32": [scored(99).score, scored(99, True).score]})
    write_sidecar(folder, toy_sidecar(folder, exported, threshold, calibration, chosen, golden_scores))

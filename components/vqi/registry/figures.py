"""What a version in the registry says of its bundle: tags and a description, from the sidecar."""

from __future__ import annotations

import json
from pathlib import Path

from vqi.deployment.bundle_files import SIDECAR
from vqi.deployment.sidecar import Sidecar
from vqi.platform.files import sha256_of
from vqi.tracking.registry import DIGEST

# The address of the Dataset that the bundle was made from, where it is known: what `vqi promote` compares on.
DATASET = "vqi.dataset"
FINGERPRINT = "vqi.dataset_fingerprint"
SIZE = "vqi.size_mib"


def bundle_digest(folder: Path) -> str:
    """The SHA-256 of a bundle's sidecar, which holds those of all its files."""
    return sha256_of(folder / SIDECAR)


def size_mib(folder: Path, sidecar: Sidecar) -> float:
    """The size of a bundle's files, MiB: the sidecar's and those that it names."""
    entries = [*sidecar.files.values(), *(file for entry in sidecar.formats.values() for file in entry.files.values())]
    return round(((folder / SIDECAR).stat().st_size + sum(entry.bytes for entry in entries)) / 2**20, 3)


def tags_of(folder: Path, sidecar: Sidecar, dataset: str = "") -> dict[str, str]:
    """The tags of a version that holds the bundle in `folder`: identity, metrics, what the parity gate measured and
    which formats the accuracy gate left out."""
    tags = {
        DIGEST: bundle_digest(folder),
        "vqi.category": sidecar.name,
        "vqi.method": sidecar.method,
        "vqi.weights": sidecar.weights.label,
        "vqi.code": sidecar.versions.get("vqi", ""),
        FINGERPRINT: sidecar.dataset.fingerprint,
        SIZE: f"{size_mib(folder, sidecar)}",
        "vqi.threshold": f"{sidecar.thresholds.image:.6g}",
        "vqi.false_reject_rate": f"{sidecar.calibration.requested_false_reject_rate:g}",
    }
    if dataset:
        tags[DATASET] = dataset
    for name, value in sidecar.metrics.items():
        shown = f"{value:.6g}" if isinstance(value, int | float) else json.dumps(value, sort_keys=True)
        tags[f"metric.{name}"] = shown
    for name, entry in sidecar.formats.items():
        tags[f"parity.{name}"] = (
            f"largest deviation {entry.largest_deviation:.2g}, tolerance {entry.tolerance:g}; {entry.flipped} "
            f"decisions differ; {entry.size_mib:.1f} MiB, {entry.latency_ms or 0:.1f} ms an image"
        )
        if entry.accuracy:
            tags[f"accuracy.{name}"] = entry.accuracy.model_dump_json()
    for name, left_out in sidecar.left_out.items():
        tags[f"left_out.{name}"] = left_out.reason
    return tags


def description_of(sidecar: Sidecar) -> str:
    """What a person reads on the page of a version."""
    return (
        f"{sidecar.method} for {sidecar.name}, from {sidecar.weights.label}. {sidecar.calibration.guarantee} "
        f"`vqi predict`, `vqi serve` and MLflow's own tools run it."
    )

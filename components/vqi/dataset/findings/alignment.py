"""Photographs that could not be brought into the reference's place."""

from __future__ import annotations

from collections.abc import Iterator

from vqi.dataset.findings.finding import Finding, alone, by_number, count_images
from vqi.dataset.manifest import Manifest


def find_unaligned(manifest: Manifest) -> Iterator[Finding]:
    """What `image.align` left as it lies."""
    failed = [s for s in manifest.samples if s.alignment is not None and s.alignment.matrix is None]
    if failed and manifest.reference:
        good = [sample for sample in failed if sample.label == "good"]
        first = failed[0].alignment
        yield Finding(
            "warning",
            "not-aligned",
            f"{count_images(failed)} ({len(good)} of them good) could not be aligned to {manifest.reference.path} and "
            f"{by_number(failed, 'is', 'are')} used as {by_number(failed, 'it lies', 'they lie')} (the first: "
            f"{first.reason if first else ''}); name a better reference in image.align, or raise image.align_limit.",
            alone(failed),
        )

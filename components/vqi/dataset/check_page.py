"""The page of a dataset check: the findings, what the set holds, and what its images look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vqi.dataset.checks import Verdict
from vqi.dataset.findings.finding import Finding
from vqi.dataset.geometry import Geometry
from vqi.dataset.inspection import Inspection
from vqi.dataset.manifest import SPLITS, Manifest
from vqi.pages.page import data_uri, render

_MOST_BARS = 12


@dataclass(frozen=True)
class Bar:
    """One line of a histogram: its label, its count and its length as a share of the longest."""

    label: str
    count: int
    share: float


@dataclass(frozen=True)
class Picture:
    """A sample for a person to look at; `address` is None where it could not be decoded."""

    path: str
    defect: str
    good: bool
    address: Markup | None


def check_page(verdict: Verdict, manifest: Manifest, inspections: Sequence[Inspection], geometry: Geometry) -> str:
    """The self-contained HTML page of a verdict; every name from the data is escaped."""
    by_path = {inspection.sample.path: inspection for inspection in inspections}
    pictures = {
        split: [_picture(by_path[path]) for path in verdict.shown[split]] for split in SPLITS if verdict.shown[split]
    }
    contents = {
        f"{split}: {defect}": count
        for split in SPLITS
        for defect, count in sorted(verdict.defects[split].items(), key=lambda item: item[0] != "good")
    }
    images = [inspection.image for inspection in inspections if inspection.image]
    areas = [
        100 * inspection.mask.pixels / (inspection.image.size[0] * inspection.image.size[1])
        for inspection in inspections
        if inspection.image
        and inspection.mask
        and inspection.mask.pixels
        and inspection.mask.size == inspection.image.size
    ]
    histograms = {
        "Images of each split and defect": _bars(contents),
        **_size_histogram([image.size for image in images]),
        "Brightness (mean grey level, 0 to 255)": _bars(
            _binned([image.brightness for image in images], np.linspace(0, 256, 17), "{:.0f} to {:.0f}")
        ),
        "Defect area (share of the image)": _bars(
            _binned(areas, np.array([0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100.001]), "{:g} to {:.4g} %")
        ),
    }
    return render(
        "check.html.jinja",
        "vqi.dataset",
        title=f"Dataset check: {manifest.name}",
        verdict=verdict,
        findings=[(finding, _examples(finding, by_path)) for finding in verdict.findings],
        manifest=manifest,
        splits=[split for split in SPLITS if sum(verdict.counts[split].values())],
        input_size=geometry.map_size,
        framed=bool(geometry.crop or geometry.region or geometry.area),
        histograms={title: bars for title, bars in histograms.items() if bars},
        pictures=pictures,
        unusual=[(_picture(by_path[normal.path]), normal.deviation) for normal in verdict.unusual],
    )


def _examples(finding: Finding, by_path: Mapping[str, Inspection]) -> list[tuple[Picture, str]]:
    return [(_picture(by_path[one.path]), one.caption) for one in finding.examples if one.path in by_path]


def _picture(inspection: Inspection) -> Picture:
    image = inspection.image
    address = None if image is None or image.picture is None else data_uri(image.picture, quality=80)
    return Picture(inspection.sample.path, inspection.sample.defect, inspection.sample.label == "good", address)


def _size_histogram(sizes: Sequence[tuple[int, int]]) -> dict[str, list[Bar]]:
    """Every size where they are few; else the longer sides in bins."""
    counts = Counter(sizes)
    if len(counts) <= _MOST_BARS:
        return {
            "Image sizes (width x height, pixels)": _bars(
                {f"{width} x {height}": count for (height, width), count in counts.most_common()}
            )
        }
    longer = [max(size) for size in sizes]
    edges = np.unique(np.linspace(min(longer), max(longer) + 1, 9).round())
    return {"Image sizes (longer side, pixels)": _bars(_binned(longer, edges, "{:.0f} to {:.0f}"))}


def _bars(counts: dict[str, int]) -> list[Bar]:
    longest = max(counts.values(), default=0)
    return [Bar(label, count, count / longest) for label, count in counts.items() if longest]


def _binned(values: Sequence[float], edges: np.ndarray, label: str) -> dict[str, int]:
    """Counts between edges, empty bins at either end left out."""
    counts, _ = np.histogram(values, edges)
    filled = np.flatnonzero(counts)
    if not len(filled):
        return {}
    return {label.format(edges[bin], edges[bin + 1]): int(counts[bin]) for bin in range(filled[0], filled[-1] + 1)}

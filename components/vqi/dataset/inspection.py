"""What the dataset check needs to know of every sample: each file is read and decoded once, in a few threads."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from vqi.dataset.areas import Polygons, draw_area
from vqi.dataset.description import describe, reduced
from vqi.dataset.description import pictured as show
from vqi.dataset.extents import Extent
from vqi.dataset.geometry import Geometry
from vqi.dataset.hatching import hatch
from vqi.dataset.image_inspection import ImageInspection, inspect_photograph
from vqi.dataset.inspection_rows import InspectionRows
from vqi.dataset.manifest import Sample
from vqi.dataset.masks import values_met
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput
from vqi.platform.progress import tracked
from vqi.platform.threads import decoding_threads, one_blas_thread

PICTURE_SIDE = 320
CONTOUR = (255, 0, 220)
FRAME = (0, 150, 255)
# Cells along a side of a fine description.
FINE = 32


@dataclass(frozen=True)
class MaskInspection:
    """A defect mask: why it cannot be read (then the rest is empty), its (height, width), and its pixels: all, those
    the network sees (in original pixels) and those left in the network's geometry. `border` is the share of the pixels
    along the edges that are defect. `values` names what the files hold, where the mask marks nothing or most of the
    photograph. `cells` and `ignored_cells`: those of a fine description that the mask, and what is ignored, touch, bool
    [FINE, FINE]."""

    problem: str | None = None
    size: tuple[int, int] = (0, 0)
    pixels: int = 0
    pixels_seen: int = 0
    pixels_at_input: int = 0
    border: float = 0.0
    values: str = ""
    cells: np.ndarray | None = None
    ignored_cells: np.ndarray | None = None

    @property
    def share(self) -> float:
        """How much of the photograph is marked, 0 to 1."""
        return self.pixels / max(self.size[0] * self.size[1], 1)


@dataclass(frozen=True)
class Inspection:
    """A sample, its photograph and its mask: `problem` says why `image` is None."""

    sample: Sample
    problem: str | None
    image: ImageInspection | None
    mask: MaskInspection | None


def inspect_samples(
    dataset: Dataset,
    geometry: Geometry,
    pictured: Collection[str],
    only: Collection[str] | None = None,
    compared: Collection[str] = (),
    described: Mapping[str, Image.Image] | None = None,
) -> list[Inspection]:
    """Inspect every sample, or those whose path is in `only`, in the manifest's order; those in `pictured` get a
    picture, those in `compared` a fine description. What ingest noted of a photograph is not looked for again, and what
    is `described` by its hash (`description.pictured`) is not decoded for a fine description."""
    noted, described = InspectionRows(dataset.folder), described or {}
    samples = [sample for sample in dataset.manifest.samples if only is None or sample.path in only]
    with one_blas_thread(), ThreadPoolExecutor(decoding_threads()) as pool:
        inspections = pool.map(
            lambda sample: _inspect_sample(
                dataset,
                sample,
                geometry,
                sample.path in pictured,
                sample.path in compared,
                noted.get(sample.sha256),
                described.get(sample.sha256),
            ),
            samples,
        )
        return list(tracked(inspections, "check: looking at images", len(samples)))


def _inspect_sample(
    dataset: Dataset,
    sample: Sample,
    geometry: Geometry,
    pictured: bool,
    compared: bool,
    known: ImageInspection | None,
    picture: Image.Image | None,
) -> Inspection:
    try:
        content = _content(dataset, sample.image, sample.sha256, sample.path)
        pixels = None
        if known is None:
            good = sample.label == "good"
            inspected = inspect_photograph(content, sample.path, dataset.manifest.decoding, good)
            known, pixels, picture = inspected.image, inspected.pixels, inspected.picture
        elif pictured or (compared and picture is None):
            pixels = dataset.image(sample)
            picture = show(reduced(Image.fromarray(pixels))) if compared else None
    except BadInput as error:
        return Inspection(sample, str(error), None, None)
    mask, inspected_mask = _mask(dataset, sample, known.size, geometry)
    if compared and picture is not None:
        known = replace(known, cells=describe(picture, FINE))
        if mask is not None and inspected_mask and mask.shape == known.size:
            ignored = _ignored(dataset, sample)
            inspected_mask = replace(
                inspected_mask,
                cells=_touched_cells(mask),
                ignored_cells=None if ignored is None or ignored.shape != mask.shape else _touched_cells(ignored),
            )
    if pictured and pixels is not None:
        ignored = _ignored(dataset, sample)
        drawn_on = pixels if ignored is None or ignored.shape != pixels.shape[:2] else hatch(pixels, ignored)
        # Region and area are drawn where the network looks: on the aligned photograph.
        drawn_on, mask = dataset.aligned(sample, drawn_on), dataset.aligned_labels(sample, mask)
        known = replace(known, picture=_picture(drawn_on, mask, geometry if known.holds(geometry) else None))
    return Inspection(sample, None, known, inspected_mask)


def _content(dataset: Dataset, extent: Extent, sha256: str | None, path: str) -> memoryview:
    content = dataset.bytes_of(extent)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BadInput(
            f"{path} is not what its manifest recorded: the Dataset was damaged after ingest; run ingest again."
        )
    return content


def _mask(
    dataset: Dataset, sample: Sample, size: tuple[int, int], geometry: Geometry
) -> tuple[np.ndarray | None, MaskInspection | None]:
    try:
        for file in (*sample.masks, *sample.ignore):
            _content(dataset, file.extent, file.sha256, file.path)
        mask = dataset.mask(sample)
    except BadInput as error:
        return None, MaskInspection(problem=str(error))
    if mask is None:
        return None, None
    if mask.shape != size:
        return None, MaskInspection(size=mask.shape)
    edges = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    whole = MaskInspection(None, size, _count(mask), border=_count(edges) / edges.size)
    if not whole.pixels or whole.share > 0.5:
        named = {
            values_met(dataset.bytes_of(file.extent), file.path, dataset.meaning_of(file)) for file in sample.masks
        }
        whole = replace(whole, values="; ".join(sorted(named)))
    if geometry.region and (geometry.region[2] > size[1] or geometry.region[3] > size[0]):
        return mask, whole
    left, top, right, bottom = (round(edge) for edge in geometry.seen(size))
    aligned = dataset.aligned_labels(sample, mask)
    return mask, replace(
        whole,
        pixels_seen=_count(aligned[top:bottom, left:right]),
        pixels_at_input=_count(geometry.apply_labels(aligned.astype(np.int32))),
    )


def _ignored(dataset: Dataset, sample: Sample) -> np.ndarray | None:
    """What a picture hatches; None where nothing is ignored, or it cannot be read (`_mask` names it)."""
    try:
        return dataset.ignored(sample)
    except BadInput:
        return None


def _picture(image: np.ndarray, mask: np.ndarray | None, geometry: Geometry | None) -> np.ndarray:
    """A photograph scaled to PICTURE_SIDE, its defects outlined; a frame shows what the network sees where that is not
    all, and the area's outline where it has one."""
    height, width = image.shape[:2]
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    if mask is not None and mask.any():
        # Any touch of the defect counts: a scratch of one pixel must survive the scaling.
        small = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)) > 0
        picture[_grown(_grown(small)) & ~small] = CONTOUR
    if geometry and (geometry.region or geometry.crop):
        left, top, right, bottom = (round(edge * scale) for edge in geometry.seen((height, width)))
        frame = np.zeros(picture.shape[:2], dtype=bool)
        frame[top:bottom, left:right] = True
        frame[top + 2 : bottom - 2, left + 2 : right - 2] = False
        picture[frame] = FRAME
    if geometry and geometry.area:
        across, down = size[0] / width, size[1] / height
        area = draw_area(Polygons.of(geometry.area).moved(0, 0, across, down), picture.shape[:2])
        picture[_grown(area) & ~area] = FRAME
    return picture


def _touched_cells(mask: np.ndarray) -> np.ndarray:
    """The FINE x FINE cells that a mask touches."""
    rows, columns = np.nonzero(mask)
    cells = np.zeros((FINE, FINE), dtype=bool)
    cells[rows * FINE // mask.shape[0], columns * FINE // mask.shape[1]] = True
    return cells


def _count(mask: np.ndarray) -> int:
    # A sum over booleans is many times slower.
    return int(np.count_nonzero(mask))


def _grown(mask: np.ndarray) -> np.ndarray:
    """A mask and its four neighbours."""
    padded = np.pad(mask, 1)
    return padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]

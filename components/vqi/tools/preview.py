"""What a method learns from, as a picture: its views of a few photographs of a Dataset."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from vqi.batches.training_images import source_images
from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.detectors.learner import Learner, Views
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings, settings_class
from vqi.evaluation.contact_sheet import contact_sheet
from vqi.platform.errors import BadInput
from vqi.platform.files import write_whole
from vqi.training.order import generator

IMAGES = 8


@dataclass(frozen=True)
class Preview:
    """The headings of a contact sheet's columns, and a sentence on what the method makes of the photographs."""

    columns: tuple[str, ...]
    sentence: str


def preview(
    *,
    dataset: Path,
    method: str,
    settings: dict[str, Any],
    backbone: BackboneSettings,
    geometry: Geometry,
    seed: int,
    out: Path,
) -> Preview:
    """Write the contact sheet of `method` to the PNG `out`: a row a photograph, a column a view. Views read no weights,
    so none are loaded.

    The photographs are chosen by `seed`, normals that are trained on; for a supervised method half of them are labelled
    defects. Raises BadInput where there are none, or the method cannot be made with these settings.
    """
    kind, source_data = settings_class(method), Dataset(dataset)
    samples = _choose_samples(source_data, kind.supervised, seed)
    images = torch.from_numpy(np.stack([to_input(source_data.one_input(sample, geometry)) for sample in samples]))
    labels = torch.tensor([int(sample.label == "defect") for sample in samples]) if kind.supervised else None
    views: Views = {}
    if kind.budget is not None:
        with ExitStack() as around:
            unread = backbone.model_copy(update={"weights": "random", "sha256": ""})
            learner = cast(Learner, create(method, settings, unread, geometry.input_size, seed))
            if kind.extra_images and (source := str(settings.get(kind.extra_images, ""))):
                key = f"method.settings.{kind.extra_images}"
                learner.extra = around.enter_context(contextmanager(source_images)(source, geometry, key))
            views = learner.views(images, labels, generator(seed, "preview", 0))
    shown = {
        name: values
        for name, values in views.items()
        if _is_picture(values, len(images)) and not torch.equal(values, images)
    }
    columns = {"photograph": _pictures(images)} | {name: _pictures(values) for name, values in shown.items()}
    words: list[Literal["good", "defect"]] = ["defect" if sample.label == "defect" else "good" for sample in samples]
    sheet = contact_sheet(
        f"What {method} learns from", columns, [sample.path for sample in samples], words if kind.supervised else None
    )
    _write_png(out, sheet)
    return Preview(tuple(columns), _sentence(method, kind.budget is not None, views, shown))


def _choose_samples(dataset: Dataset, supervised: bool, seed: int) -> list[Sample]:
    """IMAGES samples to learn from (fewer where there are fewer), the same for the same seed, in the manifest's
    order."""
    normals = dataset.samples("train", "good")
    if not supervised:
        return _some(normals, IMAGES, seed)
    normals += dataset.samples("labelled", "good")
    defects = dataset.samples("labelled", "defect")
    if not defects:
        raise BadInput(
            f"The Dataset {dataset.manifest.name!r} has no labelled defects to learn from; "
            "the source needs photographs of defects among its test photographs, and data.labelled_fraction must not "
            "be 0."
        )
    return [*_some(normals, IMAGES // 2, seed), *_some(defects, IMAGES // 2, seed)]


def _some(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    order = torch.randperm(len(samples), generator=generator(seed, "preview images", 0)).tolist()
    return [samples[number] for number in sorted(order[:count])]


def _is_picture(values: Tensor, count: int) -> bool:
    """Whether a view can be drawn: [n, 3 or 1, h, w] of numbers in [0, 1]."""
    right_shape = values.ndim == 4 and len(values) == count and values.shape[1] in (1, 3) and min(values.shape[2:]) > 1
    return right_shape and bool(values.min() >= 0) and bool(values.max() <= 1)


def _pictures(values: Tensor) -> np.ndarray:
    """float32 [n, 1 or 3, h, w] in [0, 1] -> uint8 [n, h, w, 3]."""
    return (values.float() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).expand(-1, -1, -1, 3).contiguous().numpy()


def _write_png(out: Path, picture: np.ndarray) -> None:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    write_whole(out, content.getvalue())


def _sentence(method: str, learns: bool, views: Views, shown: Views) -> str:
    if not learns:
        return f"{method} learns nothing by gradient: its index is built from the photographs as they are."
    left_out = [name for name in views if name not in shown and views[name].ndim != 4]
    beside = f" It also gets inputs that are not pictures: {', '.join(left_out)}." if left_out else ""
    if not shown:
        return f"{method} learns from the photographs as they are.{beside}"
    return f"{method} learns from: {', '.join(shown)}.{beside}"

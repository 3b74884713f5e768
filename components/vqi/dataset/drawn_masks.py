"""Drawings of photographs as mask files in the shards of a Dataset."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vqi.dataset.drawings import Box, Drawing, draw_mask, pixel_box, reaches_beyond
from vqi.dataset.layouts.interface import Photograph
from vqi.dataset.layouts.listing import counted, examples
from vqi.dataset.manifest import MaskFile, MaskKind, PixelBox
from vqi.dataset.shards import ShardWriter
from vqi.platform.errors import BadInput


@dataclass(frozen=True)
class DrawnMasks:
    """What was drawn for a photograph, its defects that are boxes one by one, and how many of its drawings reach beyond
    its edge."""

    masks: tuple[MaskFile, ...] = ()
    ignore: tuple[MaskFile, ...] = ()
    boxes: tuple[PixelBox, ...] = ()
    beyond: int = 0


def store_drawn_masks(
    photograph: Photograph,
    layout: str,
    width: int,
    height: int,
    shards: ShardWriter,
    unused_path: Callable[[str], str],
) -> DrawnMasks:
    """Append to the shards one mask of a photograph's outlines and one of its boxes, where it has any, and the same of
    its ignored regions.

    `width` and `height` are the photograph's, `layout` names its reader in errors, `unused_path` makes a path that no
    file of the source has. Raises BadInput where a drawing cannot be drawn on the photograph, and where an annotation
    states another size.
    """
    owner = f"The photograph {photograph.path} (layout {layout})"
    if photograph.size is not None and photograph.size != (width, height):
        raise BadInput(
            f"{owner} has {width} x {height} pixels, and its annotation is of {photograph.size[0]} x "
            f"{photograph.size[1]}; bring the photograph it was made on, or mend the annotation."
        )
    stored: dict[str, tuple[MaskFile, ...]] = {"mask": (), "ignore": ()}
    beyond = 0
    for role, items in (("mask", photograph.masks), ("ignore", photograph.ignore)):
        drawings = [item for item in items if not isinstance(item, str)]
        beyond += sum(reaches_beyond(drawing, width, height) for drawing in drawings)
        kinds: tuple[tuple[MaskKind, list[Drawing]], ...] = (
            ("outline", [drawing for drawing in drawings if not isinstance(drawing, Box)]),
            ("box", [drawing for drawing in drawings if isinstance(drawing, Box)]),
        )
        for kind, of_kind in kinds:
            if of_kind:
                path = unused_path(f"{photograph.path}.{kind}-{role}.png")
                content = _png(draw_mask(of_kind, width, height, owner))
                digest = hashlib.sha256(content).hexdigest()
                stored[role] += (MaskFile(path, digest, shards.add(path, content), kind),)
    boxes = tuple(pixel_box(item, width, height) for item in photograph.masks if isinstance(item, Box))
    return DrawnMasks(stored["mask"], stored["ignore"], boxes, beyond)


def drawn_notes(photographs: Mapping[str, DrawnMasks]) -> Iterator[str]:
    """Sentences about what was drawn, by the photographs' paths."""
    masked = [path for path, drawn in photographs.items() if drawn.masks]
    boxed = [path for path in masked if any(mask.kind == "box" for mask in photographs[path].masks)]
    beyond = [path for path, drawn in photographs.items() if drawn.beyond]
    if masked:
        yield f"The masks of {counted(len(masked), 'photograph')} are drawn from annotations."
    if boxed:
        yield (
            f"The defects of {counted(len(boxed), 'photograph')} are boxes ({examples(boxed)}): they say where a "
            "defect lies and not what shape it has, so that no pixel metric counts what lies in a box, and box_recall "
            "says how many are found."
        )
    if beyond:
        yield (
            f"{counted(sum(photographs[path].beyond for path in beyond), 'drawing')} beyond the edge of the photograph "
            f"cut off ({examples(beyond)})."
        )


def _png(mask: np.ndarray) -> bytes:
    """A mask, bool [H, W], as a PNG of one bit a pixel."""
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()

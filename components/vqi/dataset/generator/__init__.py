"""A procedural data set: photographs of machined flanges, faultless and defective, with exact masks; no download, no
licence.

Every picture is drawn from its own random stream, so that the same seed gives the same bytes and asking for more
pictures changes none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vqi.dataset.generator.defects import DEFECTS
from vqi.dataset.generator.part import photograph, position_part
from vqi.platform.errors import BadInput
from vqi.platform.files import whole_folder
from vqi.platform.progress import Progress

# The streams of a seed: one for each kind of picture, so that none depends on how many of another kind were asked for.
_TRAIN, _TEST = 0, 1
_FIRST_DEFECT = 2


def generate(
    folder: Path, *, seed: int, normals: int, test_normals: int, defects_each: int, size: tuple[int, int]
) -> None:
    """Write a data set in MVTec's layout: `train/good`, `test/good`, `test/<defect>`,
    `ground_truth/<defect>/<stem>_mask.png`.

    `defects_each` pictures of every type in DEFECTS; `size` is (height, width). `folder` appears complete, replacing
    what was there. Raises BadInput where a count is negative, nothing normal is asked for or `size` is too small to
    show a defect.
    """
    if seed < 0 or normals < 1 or min(test_normals, defects_each) < 0:
        raise BadInput("A generated set needs a seed of at least 0, one normal image or more, and no negative count.")
    if min(size) < 96 or max(size) > 4096:
        raise BadInput(
            f"A generated picture of {size[1]} x {size[0]} pixels shows no defects well; both sides must lie between "
            "96 and 4096."
        )
    progress = Progress("rendering", normals + test_normals + defects_each * len(DEFECTS))
    with whole_folder(folder) as out:
        for name, stream, count in (("train/good", _TRAIN, normals), ("test/good", _TEST, test_normals)):
            for number in range(count):
                _save(out / name / f"{number:03}.png", render(size, seed, stream, number)[0])
                progress.advance()
        for stream, defect in enumerate(sorted(DEFECTS), start=_FIRST_DEFECT):
            for number in range(defects_each):
                picture, mask = render(size, seed, stream, number, defect)
                _save(out / "test" / defect / f"{number:03}.png", picture)
                _save(out / "ground_truth" / defect / f"{number:03}_mask.png", mask.astype(np.uint8) * 255)
                progress.advance()


def render(
    size: tuple[int, int], seed: int, stream: int, number: int, defect: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One picture, uint8 [H, W, 3], and its mask, bool [H, W]. With and without a defect the same numbers show the same
    part and scene."""
    pose, scene, fault = (np.random.default_rng([seed, stream, number, purpose]) for purpose in range(3))
    part = position_part(size, pose)
    mask = DEFECTS[defect](part, fault) if defect else np.zeros(size, dtype=bool)
    return photograph(part, scene), mask


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)

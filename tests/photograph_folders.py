"""Small folders of small photographs for tests of whatever brings them in."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(number: int, side: int = 32) -> bytes:
    """A PNG of noise; the same number gives the same bytes."""
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def mask(side: int = 32) -> bytes:
    """A PNG with a white square on black."""
    painted = np.zeros((side, side), np.uint8)
    painted[8:16, 8:16] = 255
    out = io.BytesIO()
    Image.fromarray(painted).save(out, "PNG")
    return out.getvalue()


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files by '/'-separated names below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def mvtec_files(normals: int = 10) -> dict[str, bytes]:
    """A set in MVTec layout with nested, unknown and validation folders, hostile names, and things that must be passed
    over."""
    files = {f"train/good/{index:03d}.png": photograph(index) for index in range(normals)}
    files |= {f"test/good/{index:03d}.png": photograph(1000 + index) for index in range(3)}
    files |= {f"test/scratch/deep/{index:03d}.png": photograph(2000 + index) for index in range(2)}
    files |= {f"ground_truth/scratch/deep/{index:03d}_mask.png": mask() for index in range(2)}
    files |= {"test/dent/<img src=x onerror=alert(1)>.png": photograph(3000), "test/unknown/odd.png": photograph(3001)}
    files |= {f"test/dent/{'ä' * 60} {'long' * 12}.png": photograph(3002), "validation/good/000.png": photograph(3003)}
    files |= {"validation/dent/v.png": photograph(3004), "ground_truth/dent/v.png": mask()}
    return files | {"readme.txt": b"text", "train/good/.DS_Store": b"junk", "extra/one.png": photograph(3005)}

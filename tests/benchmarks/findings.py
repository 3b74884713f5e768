"""How often the check's findings on light, sharpness and masks are false alarms, and how often they are right.

    python tests/benchmarks/findings.py --out build/findings SET [SET ...]

Each SET is a folder in MVTec AD's layout; rendered flanges and three rendered textures are added. False alarms: findings
on the set as it is, and on random re-splits of its normals, as many of them in test as in the set. Hits: findings after
photographs were blurred or exposed otherwise, after test was, and after all masks were turned, shifted or exchanged.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from vqi.category import Category
from vqi.dataset.capture import capture_of
from vqi.dataset.findings.exposure import find_blurred, find_exposed_otherwise
from vqi.dataset.findings.mask_position import compared_paths, find_misplaced_masks
from vqi.dataset.findings.shift import find_shift
from vqi.dataset.generator import generate
from vqi.dataset.geometry import Geometry
from vqi.dataset.inspection import Inspection, inspect_samples
from vqi.dataset.reader import Dataset
from vqi.steps.ingest.settings import StepSettings
from vqi.steps.ingest.step import ingest

TURNS = {
    "mirrored": lambda cells: cells[:, ::-1],
    "upside down": lambda cells: cells[::-1],
    "shifted by a quarter": lambda cells: np.roll(cells, (8, 8), (0, 1)),
}


def render_texture(folder: Path, kind: str, count: int = 80, side: int = 256) -> None:
    random = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    response = {
        "grain": np.exp(-((frequency * 2) ** 2)),
        "cloud": 1 / (frequency + 0.02),
        "weave": np.exp(-(((frequency - 0.08) / 0.02) ** 2)),
    }[kind]
    for number in range(count):
        values = np.real(np.fft.ifft2(np.fft.fft2(random.normal(0, 1, (side, side))) * response))
        light = 128 + random.normal(0, 4) + 30 * (values - values.mean()) / values.std()
        file = folder / ("train" if number < 3 * count // 4 else "test") / "good" / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((light + random.normal(0, 2, light.shape)).clip(0, 255).astype(np.uint8)).save(file)


def codes(findings: Any) -> list[str]:
    return [finding.code for finding in findings]


def measure(name: str, source: Path, splits: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        values = {"name": "findings", "data": {"source": str(source), "layout": "mvtec"}}
        ingest(StepSettings.of(Category.parse(values, "The benchmark")), dataset=Path(folder) / "dataset")
        dataset = Dataset(Path(folder) / "dataset")
        geometry = Geometry()
        inspections = inspect_samples(dataset, geometry, (), compared=compared_paths(dataset.manifest))
        images = [(one.sample, one.image) for one in inspections if one.image]
        row: dict[str, Any] = {"set": name, "photographs": len(images)}
        row["as it is"] = {
            finding.code: len(finding.paths)
            for finding in (
                *find_blurred(images),
                *find_exposed_otherwise(images),
                *find_shift(images),
                *find_misplaced_masks(inspections, geometry),
            )
        }
        normals = [one for one in images if one[0].label == "good"]
        tested = sum(sample.split == "test" for sample, _ in normals)
        random = np.random.default_rng(0)
        groups = sorted({sample.group_key for sample, _ in normals})
        share = tested / max(len(normals), 1)
        alarms = 0
        for _ in range(splits):
            count = max(3, round(share * len(groups)))
            test = {groups[at] for at in random.permutation(len(groups))[:count]}
            dealt = [(replace(s, split="test" if s.group_key in test else "train"), i) for s, i in normals]
            alarms += bool(codes(find_shift(dealt)))
        row["re-splits"], row["alarms of re-splits"] = splits, alarms
        # One photograph at a time is changed, and test as a whole.
        chosen = normals[:: max(1, len(normals) // 30)]
        pixels = {s.path: dataset.image(s) for s, _ in normals if s.split == "test" or (s, _) in chosen}
        changes: dict[str, Any] = {
            "blur of 0.4 % of the side": lambda p: blur(p, 0.004),
            "blur of 0.6 % of the side": lambda p: blur(p, 0.006),
            "exposed twice": lambda p: scaled(p, 2.0),
            "a tenth brighter": lambda p: scaled(p, 1.1),
            "a quarter brighter": lambda p: scaled(p, 1.25),
        }
        for what, change in changes.items():
            hits = 0
            for sample, image in chosen:
                changed = replace(image, capture=capture_of(change(pixels[sample.path]), b""))
                others = [(s, changed if s is sample else i) for s, i in images]
                findings = [*find_blurred(others), *find_exposed_otherwise(others)]
                hits += any((sample.path,) in finding.paths for finding in findings)
            row[f"one photograph: {what}"] = f"{hits} of {len(chosen)}"
            other = [
                (s, replace(i, capture=capture_of(change(pixels[s.path]), b"")) if s.split == "test" else i)
                for s, i in normals
            ]
            row[f"test: {what}"] = codes(find_shift(other))
        marked = [one for one in inspections if one.mask and one.mask.cells is not None]
        if marked:
            for what, turn in TURNS.items():
                row[f"masks {what}"] = misplaced(inspections, geometry, turn, 0)
            row["masks exchanged"] = misplaced(inspections, geometry, lambda cells: cells, len(marked) // 2)
    return row


def misplaced(inspections: list[Inspection], geometry: Geometry, turn: Any, step: int) -> dict[str, int]:
    marked = [one for one in inspections if one.mask and one.mask.cells is not None]
    masks = {
        one.sample.path: marked[(at + step) % len(marked)].mask.cells  # type: ignore[union-attr]
        for at, one in enumerate(marked)
    }
    changed = [
        replace(one, mask=replace(one.mask, cells=turn(masks[one.sample.path])))
        if one.mask and one.sample.path in masks
        else one
        for one in inspections
    ]
    return {finding.code: len(finding.paths) for finding in find_misplaced_masks(changed, geometry)}


def blur(pixels: np.ndarray, share: float) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(share * max(pixels.shape))))


def scaled(pixels: np.ndarray, gain: float) -> np.ndarray:
    return (pixels * gain).clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", type=Path, nargs="*")
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("build/findings"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rendered = Path(folder)
        generate(rendered / "flanges", seed=0, normals=60, test_normals=20, defects_each=8, size=(256, 256))
        for kind in ("grain", "cloud", "weave"):
            render_texture(rendered / kind, kind)
        rows = []
        for source in (*options.sets, *sorted(rendered.iterdir())):
            rows.append(measure(source.name, source, options.splits))
            print(json.dumps(rows[-1], indent=1), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "findings.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""How ingest, the dataset check and build_index grow with the number of normals: processor time, wall time, peak memory.

    python tests/benchmarks/scale.py --counts 1000 10000 100000 --out build/scale

Photographs are small JPEGs, each a rendered part with a texture of its own, so that none is a copy of another. Each step
runs as a process of its own; the table holds its processor seconds, its wall seconds and the most memory it held.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from processes import measure_process

STEPS = ("ingest", "check_dataset", "train", "build_index")


def make(folder: Path, count: int, side: int) -> None:
    """Write `count` normals and a few defects into `folder`, in the layout of MVTec AD."""
    import numpy as np
    from PIL import Image

    from vqi.dataset.generator import generate

    with tempfile.TemporaryDirectory() as rendered:
        # The generator draws no smaller parts.
        generate(Path(rendered), seed=0, normals=8, test_normals=4, defects_each=1, size=(max(side, 96),) * 2)
        parts = []
        for file in sorted(Path(rendered).glob("t*/*/*.png")):
            picture = Image.open(file).resize((side, side))
            if file.parts[-3] == "train":
                parts.append(np.asarray(picture, np.float32))
            else:
                target = folder / file.relative_to(rendered)
                target.parent.mkdir(parents=True, exist_ok=True)
                picture.save(target)
    good = folder / "train" / "good"
    good.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        texture = Image.fromarray(random.normal(0, 14, (12, 12)).astype(np.float32))
        values = (
            parts[number % len(parts)] + np.asarray(texture.resize((side, side), Image.Resampling.BICUBIC))[..., None]
        )
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(good / f"{number:06d}.jpg", quality=92)


def run_step(step: str, source: Path, folder: Path, side: int, ratio: float) -> None:
    """Run one step in this process."""
    from vqi.category import Category

    values = {
        "name": "scale",
        "data": {"source": str(source)},
        "image": {"size": [side, side]},
        "backbone": {"name": "filterbank"},
        "method": {"name": "patchcore", "settings": {"coreset_ratio": ratio}},
    }
    category = Category.parse(values, "The benchmark")
    dataset, network = folder / "dataset", folder / "network"
    if step == "ingest":
        from vqi.steps.ingest.settings import StepSettings as IngestSettings
        from vqi.steps.ingest.step import ingest

        ingest(IngestSettings.of(category), dataset=dataset)
    elif step == "check_dataset":
        from vqi.steps.check_dataset.settings import StepSettings as CheckSettings
        from vqi.steps.check_dataset.step import check_dataset

        check_dataset(
            CheckSettings.of(category), dataset=dataset, page=folder / "check.html", verdict=folder / "verdict.json"
        )
    elif step == "train":
        from vqi.steps.train.settings import StepSettings as TrainSettings
        from vqi.steps.train.step import train

        train(TrainSettings.of(category), dataset=dataset, network=network)
    else:
        from vqi.steps.build_index.settings import StepSettings as BuildSettings
        from vqi.steps.build_index.step import build_index

        build_index(
            BuildSettings.of(category),
            dataset=dataset,
            network=network,
            index=folder / "index",
            features=folder / "features",
        )


def measure(step: str, arguments: list[str], log: Path) -> dict[str, float]:
    """Processor seconds, wall seconds and peak MiB of one step."""
    cost = measure_process([sys.executable, "-W", "ignore", __file__, "--step", step, *arguments], log)
    return {
        "cpu_s": round(cost["processor"], 1),
        "wall_s": round(cost["wall"], 1),
        "peak_mib": round(cost["peak_mib"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--ratio", type=float, default=0.0005, help="the coreset's share of the patches")
    parser.add_argument("--out", type=Path, default=Path("build/scale"))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        folder = options.out / str(options.counts[0])
        return run_step(options.step, folder / "source", folder, options.side, options.ratio)
    rows = []
    for count in options.counts:
        folder = options.out / str(count)
        if not (folder / "source").is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder / "source", count, options.side)
        given = ["--counts", str(count), "--side", str(options.side), "--ratio", str(options.ratio)]
        given += ["--out", str(options.out)]
        for step in options.steps:
            rows.append({"normals": count, "step": step, **measure(step, given, folder / "log")})
            print(json.dumps(rows[-1]), flush=True)
    (options.out / "scale.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

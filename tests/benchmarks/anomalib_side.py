"""The other contestant: anomalib's own models on the task's images. Run by the interpreter of an environment that has
anomalib, not by the project's.

    python anomalib_side.py TASK.json RESULT_FOLDER

anomalib's torch models, coreset, Gaussian, PCA and pre-processing are driven as its Lightning modules drive them (one
pass in training mode that collects embeddings, `fit`, then evaluation mode), in a plain loop: that is faster than its
Engine, whose trainer adds seconds. With `"engine": true` in the task the Engine itself is timed as well.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data.utils import read_image
from anomalib.models import Dfm, Padim, Patchcore
from measuring import LATENCY_IMAGES, latencies, peak_mib, seconds, write_result


def create(task: dict[str, Any]) -> Any:
    """anomalib's Lightning module of the task's method, with the task's weights in its (timm) backbone."""
    plain = {"backbone": task["backbone"], "pre_trained": False}
    settings = task["settings"]
    if task["method"] == "patchcore":
        module: Any = Patchcore(
            **plain,
            layers=task["layers"],
            coreset_sampling_ratio=settings["coreset_ratio"],
            num_neighbors=settings.get("neighbours", 9),
        )
    elif task["method"] == "padim":
        module = Padim(**plain, layers=task["layers"], n_features=settings["channels"])
    else:
        module = Dfm(
            **plain, layer=task["layers"][0], pooling_kernel_size=settings["pool"], pca_level=settings["variance"]
        )
    network = module.model.feature_extractor.feature_extractor
    missing, _ = network.load_state_dict(torch.load(task["weights"], weights_only=True), strict=False)
    unknown = [key for key in missing if not key.endswith("num_batches_tracked")]
    if unknown:
        raise SystemExit(f"{task['weights']} lacks {unknown} of anomalib's backbone.")
    return module


def batches(task: dict[str, Any], paths: list[str], transform: Any) -> Iterator[torch.Tensor]:
    """Pre-processed batches, decoded ahead by as many threads as the other side has."""
    with ThreadPoolExecutor(task["threads"]) as pool:
        waiting: list[torch.Tensor] = []
        for image in pool.map(lambda path: transform(read_image(Path(task["root"]) / path, as_tensor=True)), paths):
            waiting.append(image)
            if len(waiting) == task["batch_size"]:
                yield torch.stack(waiting)
                waiting = []
        if waiting:
            yield torch.stack(waiting)


def run(task: dict[str, Any], folder: Path) -> None:
    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["seed"])
    module = create(task)
    model, transform = module.model, type(module).configure_pre_processor(image_size=tuple(task["size"])).transform
    result: dict[str, Any] = {
        "versions": {"torch": torch.__version__, "anomalib": __import__("anomalib").__version__},
        "start_mib": peak_mib(),
    }

    with seconds(result, "fit_seconds"):
        with torch.no_grad():
            model.train()
            with seconds(result, "embed_seconds"):
                for batch in batches(task, task["train"], transform):
                    model(batch)
            module.fit()
        model.eval()
    for clock in ("", "processor_"):  # it makes no threshold from normals
        result[f"{clock}calibrated_fit_seconds"] = result[f"{clock}fit_seconds"]
    result["index_seconds"] = result["fit_seconds"] - result["embed_seconds"]
    result["peak_mib"] = peak_mib()

    sample = torch.cat(list(batches(task, task["test"][:LATENCY_IMAGES], transform)))
    result |= latencies({"latency": model, "backbone": model.feature_extractor}, sample)

    scores, maps = [], []
    with seconds(result, "test_seconds"), torch.inference_mode():
        for batch in batches(task, task["test"], transform):
            output = model(batch)
            scores.append(output.pred_score.reshape(-1).numpy())
            maps.append(output.anomaly_map[:, 0].numpy())

    with tempfile.TemporaryFile() as file:
        torch.save(model.state_dict(), file)
        result["stored_mib"] = file.tell() / 2**20
    write_result(folder, result, np.concatenate(scores), np.concatenate(maps))
    if task.get("engine"):
        result["engine_fit_seconds"] = engine_fit_seconds(task)
        write_result(folder, result, np.concatenate(scores), np.concatenate(maps))


def engine_fit_seconds(task: dict[str, Any]) -> float:
    """What its users wait for: `Engine.fit` on a folder, without validation, pictures or metrics."""
    from anomalib.data import Folder
    from anomalib.engine import Engine

    result: dict[str, Any] = {}
    module = create(task)
    with tempfile.TemporaryDirectory() as scratch:
        data = Folder(
            name="benchmark",
            root=task["root"],
            normal_dir="train/good",
            normal_test_dir="test/good",
            train_batch_size=task["batch_size"],
            num_workers=task["threads"],
            val_split_mode="none",
        )
        engine = Engine(
            default_root_dir=scratch, accelerator="cpu", logger=False, enable_progress_bar=False, barebones=False
        )
        with seconds(result, "fit"):
            engine.fit(model=module, datamodule=data)
    return float(result["fit"])


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))

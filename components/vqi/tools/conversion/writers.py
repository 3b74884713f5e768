"""The writers of the layouts that a set is converted to: each puts photographs, masks and what names them into a
folder, and says where every photograph went."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqi.dataset.layouts.mvtec_loco import CONFIG, config_entry
from vqi.dataset.layouts.table import COLUMNS
from vqi.dataset.reader import Dataset
from vqi.platform.progress import tracked
from vqi.tools.conversion.losses import Target, folder_of
from vqi.tools.conversion.rows import Row, file_names, mask_png, unused

# Where every photograph went, by its path in the source; those left out are missing.
Written = dict[str, str]
Writer = Callable[[Dataset, Sequence[Row], Path], Written]
_LISTS = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}


def write_mvtec(dataset: Dataset, rows: Sequence[Row], folder: Path) -> Written:
    """train/good, validation/, test/DEFECT and ground_truth/; with saturation thresholds as MVTec LOCO has them: a mask
    for each region, painted with its value, and defects_config.json."""
    written: Written = {}
    saturation = dataset.manifest.saturation
    # What is painted in a colour has no rule.
    without_rule = min(set(range(1, 256)) - {rule.value for rule in saturation}, default=1)
    if saturation:
        _write(folder, CONFIG, json.dumps([config_entry(rule) for rule in saturation], ensure_ascii=False).encode())
    for parent, members in _by_folder(rows, lambda row: f"{row.dealt}/{folder_of(row.sample.defect, 'mvtec')}").items():
        names = file_names([row.sample.path for row in members])
        for row, name in _tracked(members, names):
            written[row.sample.path] = _write_image(dataset, row, folder, f"{parent}/{name}")
            below = f"ground_truth/{parent.removeprefix('test/')}/{name.rsplit('.', 1)[0]}"
            if saturation:
                for position, (region, value) in enumerate(dataset.painted_regions(row.sample)):
                    _write(folder, f"{below}/{position:03d}.png", mask_png(region, value or without_rule))
            elif (mask := dataset.mask(row.sample)) is not None:
                _write(folder, f"{below}_mask.png", mask_png(mask))
    return written


def write_lists(dataset: Dataset, rows: Sequence[Row], folder: Path) -> Written:
    """images/DEFECT, masks/DEFECT and train.txt, val.txt, test.txt of "image mask" lines; good photographs have empty
    masks, and unknown ones none."""
    written: Written = {}
    lines: dict[str, list[str]] = defaultdict(list)
    for parent, members in _by_folder(rows, lambda row: folder_of(row.sample.defect, "lists")).items():
        names = file_names([row.sample.path for row in members])
        for row, name in _tracked(members, names):
            sample, mask = row.sample, dataset.mask(row.sample)
            if sample.label == "defect" and (mask is None or not mask.any()):
                continue
            path = _write_image(dataset, row, folder, f"images/{parent}/{name}")
            written[sample.path] = path
            if sample.label == "good":
                mask = np.zeros((sample.height, sample.width), bool)
            if mask is not None:
                painted = _write(folder, f"masks/{parent}/{name.rsplit('.', 1)[0]}.png", mask_png(mask))
                path = f"{path} {painted}"
            lines[_LISTS[row.dealt]].append(path)
    for name in _LISTS.values():
        if lines[name]:
            _write(folder, name, ("\n".join(lines[name]) + "\n").encode())
    return written


def write_table(dataset: Dataset, rows: Sequence[Row], folder: Path) -> Written:
    """photographs.csv at the top; photographs keep their paths."""
    names = sorted({name for row in rows for name, _ in row.sample.metadata})
    columns = {name: unused(name, COLUMNS) for name in names}
    used = {row.sample.path for row in rows}
    table = io.StringIO()
    writer = csv.DictWriter(table, [*COLUMNS, *columns.values()], lineterminator="\n")
    writer.writeheader()
    for row in tracked(rows, "convert: photographs", len(rows)):
        sample = row.sample
        _write_image(dataset, row, folder, sample.path)
        cells = {"path": sample.path, "split": row.split or "", "label": sample.label, "group": row.group}
        cells["defect"] = sample.defect if sample.label == "defect" else ""
        for column, mask in (("mask", dataset.outlines(sample)), ("ignore", dataset.ignored(sample))):
            if mask is not None:
                cells[column] = _write(folder, unused(f"{column}s/{sample.path}.png", used), mask_png(mask))
        cells["boxes"] = "; ".join(" ".join(map(str, box)) for box in sample.boxes)
        writer.writerow(cells | {columns[name]: value for name, value in sample.metadata})
    _write(folder, unused("photographs.csv", used), table.getvalue().encode())
    return {row.sample.path: row.sample.path for row in rows}


def write_coco(dataset: Dataset, rows: Sequence[Row], folder: Path) -> Written:
    """instances_SPLIT.json at the top, instances_all.json of what has no split; outlines are run lengths."""
    written: Written = {}
    types = sorted({row.sample.defect for row in rows if row.sample.label == "defect"})
    categories = [{"id": position, "name": name} for position, name in enumerate([*types, "__ignore__"], 1)]
    ids = {str(category["name"]): category["id"] for category in categories}
    images: dict[str, list[dict[str, Any]]] = defaultdict(list)
    annotations: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for position, row in enumerate(tracked(rows, "convert: photographs", len(rows)), 1):
        sample, split = row.sample, row.split or "all"
        drawn = [
            (ids[name], mask)
            for name, mask in ((sample.defect, dataset.outlines(sample)), ("__ignore__", dataset.ignored(sample)))
            if mask is not None and mask.any()
        ]
        marked = bool(sample.boxes) or any(category != ids["__ignore__"] for category, _ in drawn)
        if sample.label == "unknown" or (sample.label == "defect" and not marked):
            continue
        written[sample.path] = _write_image(dataset, row, folder, f"images/{sample.path}")
        image = {"id": position, "file_name": f"images/{sample.path}", "width": sample.width, "height": sample.height}
        group = {"group": row.group} if row.group else {}
        images[split].append(dict(sample.metadata) | image | group)
        for category, mask in drawn:
            annotations[split].append(
                _annotation(category, position, _run_lengths(mask), _bounds(mask), int(mask.sum()))
            )
        for left, top, right, bottom in sample.boxes:
            box = [left, top, right - left, bottom - top]
            annotations[split].append(_annotation(ids[sample.defect], position, [], box, box[2] * box[3]))
    for name, listed in images.items():
        numbered = [{"id": number, **entry} for number, entry in enumerate(annotations[name], 1)]
        content = {"images": listed, "annotations": numbered, "categories": categories}
        _write(folder, f"instances_{name}.json", json.dumps(content, ensure_ascii=False).encode())
    return written


WRITERS: dict[Target, Writer] = {"mvtec": write_mvtec, "coco": write_coco, "lists": write_lists, "table": write_table}


def _by_folder(rows: Sequence[Row], folder: Callable[[Row], str]) -> dict[str, list[Row]]:
    members: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        members[folder(row)].append(row)
    return dict(members)


def _tracked(rows: Sequence[Row], names: Sequence[str]) -> list[tuple[Row, str]]:
    return list(tracked(list(zip(rows, names, strict=True)), "convert: photographs", len(rows)))


def _write_image(dataset: Dataset, row: Row, folder: Path, path: str) -> str:
    return _write(folder, path, dataset.bytes_of(row.sample.image))


def _write(folder: Path, path: str, content: bytes | memoryview) -> str:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return path


def _annotation(category: object, image: int, segmentation: Any, box: list[int], area: int) -> dict[str, Any]:
    parts = {"segmentation": segmentation, "bbox": box, "area": area, "iscrowd": 0}
    return {"image_id": image, "category_id": category, **parts}


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's run lengths of a mask, bool [H, W], not compressed: column after column, background first."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0, 0] if flat[0] else [0], changes, [flat.size]])
    return {"counts": np.diff(edges).tolist(), "size": list(mask.shape)}


def _bounds(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]

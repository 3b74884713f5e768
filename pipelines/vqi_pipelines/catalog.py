"""The catalog: one YAML file a product category, found by name, overridable value by value."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vqi.category import Category, fields
from vqi.dataset.areas import PICTURES, area_of_file
from vqi.platform.errors import BadInput, closest


def catalog_folders() -> list[Path]:
    """Where categories are looked for: `$VQI_CATALOG`, `./pipelines/catalog`, `./catalog`, and the checkout the package
    runs from."""
    named = os.environ.get("VQI_CATALOG")
    here = Path(__file__).resolve().parents[1] / "catalog"
    folders = [Path(named)] if named else [Path("pipelines/catalog"), Path("catalog"), here]
    return [folder for folder in dict.fromkeys(path.resolve() for path in folders) if folder.is_dir()]


def category_names() -> list[str]:
    """The categories of the catalog, sorted."""
    return sorted({path.stem for folder in catalog_folders() for path in folder.glob("*.yaml")})


def load_category(name: str, overrides: Sequence[str] = ()) -> Category:
    """The category `name` of the catalog (or a YAML file's path), with `overrides` ("path=value").

    A name that the catalog does not have is fine where the overrides give `data.source`: a category needs no file. An
    empty name becomes that of the source. Raises BadInput with one sentence for anything else.
    """
    path = _find(name) if name else None
    values: dict[str, Any] = {}
    if path:
        values = _read(path)
        values.setdefault("name", path.stem)
    for override in overrides:
        _set(values, override)
    if not path:
        source = str(values.get("data", {}).get("source") or "")
        if not source and not name:
            raise BadInput(
                "Name a category of the catalog with --category, or photographs with --set data.source=FOLDER."
            )
        if not source:
            raise BadInput(
                f"There is no category {name!r} in the catalog.{closest(name, category_names())} "
                "Without a file it needs --set data.source=FOLDER at least."
            )
        values.setdefault("name", name or source_name(source))
    return Category.parse(_with_area_read(values), str(path.name) if path else "The category")


def _with_area_read(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the polygons of the mask file that `image.area` names: a cluster reads no file of this
    machine."""
    image = values.get("image")
    area = image.get("area") if isinstance(image, dict) else None
    if not isinstance(image, dict) or not isinstance(area, str) or not area.lower().endswith(PICTURES):
        return values
    return values | {"image": image | {"area": area_of_file(Path(area))}}


def source_name(source: str) -> str:
    """A category's name from where its photographs lie: the last part of the path or address, without the suffix of an
    archive."""
    last = re.sub(
        r"\.(tar|tgz|txz|zip)(\.\w+)?$", "", Path(source.rstrip("/") or "/").absolute().name, flags=re.IGNORECASE
    )
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._")[:63] or "category"


def _find(name: str) -> Path | None:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        if not Path(name).is_file():
            raise BadInput(f"The category file {name} does not exist.")
        return Path(name)
    for folder in catalog_folders():
        candidate = folder / f"{name}.yaml"
        if candidate.is_file():
            return candidate
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path} is not readable YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} must be a mapping of keys such as name, data and method.")
    return value


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise BadInput(
            f"--set {override!r} must be written path=value, such as --set method.settings.coreset_ratio=0.1."
        )
    known = list(fields())
    if key not in known and not key.startswith(("method.settings.", "resources.")):
        raise BadInput(f"--set {key} is not a key of a category.{closest(key, known)}")
    try:
        value = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise BadInput(f"--set {override!r} has a value that is not YAML: {' '.join(str(error).split())}.") from error
    if isinstance(value, str) and key == "method.settings":
        raise BadInput('--set method.settings takes a mapping, such as --set method.settings="{coreset_ratio: 0.1}".')
    if isinstance(value, str) and key == "resources":
        raise BadInput('--set resources takes a mapping, such as --set resources="{train: {cpu: 4, memory: 8Gi}}".')
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise BadInput(f"--set {key} cannot override {section}, which is {inner!r} in the category's file.")
        values = inner
    values[last] = value

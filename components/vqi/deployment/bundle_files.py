"""How the parts of a bundle are named, and the files that every bundle has beside those of its formats."""

from __future__ import annotations

from typing import Literal

SIDECAR: Literal["bundle.json"] = "bundle.json"
INDEX: Literal["index.safetensors"] = "index.safetensors"
GOLDEN: Literal["golden.safetensors"] = "golden.safetensors"

NAME = r"^[a-z][a-z0-9_-]{0,31}$"
PRECISION = r"^[a-z0-9]{1,16}$"
# A file of a bundle, relative to it; a folder of one ends in "/".
BUNDLE_FILE = r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$"
# A package with its extras, as pip takes it.
PACKAGE = r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?$"

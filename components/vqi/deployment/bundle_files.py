"""The files that every bundle has beside those of its formats."""

from __future__ import annotations

from typing import Literal

SIDECAR: Literal["bundle.json"] = "bundle.json"
INDEX: Literal["index.safetensors"] = "index.safetensors"

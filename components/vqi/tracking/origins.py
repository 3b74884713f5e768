"""Which run of Kubeflow Pipelines a step belongs to, and how its MLflow runs are distinguished by it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime

# The tags of an MLflow run: the id of the KFP run, and its page where the address of KFP's UI is known.
KFP_RUN, KFP_LINK = "vqi.kfp_run", "vqi.kfp_link"
# What the settings of a namespace name KFP's UI by.
KFP_UI = "VQI_KFP_UI"
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def kfp_run_of(uri: str) -> str:
    """The id of the KFP run that wrote an artefact, from its address; "" where there is none, as in a local run.

    The address is the only way to know it that is not part of a cache key: .../PIPELINE/RUN/TASK/EXECUTION/NAME.
    """
    match = re.search(rf"/({_ID})/[^/]+/(?:{_ID}/)?[^/]+$", uri)
    return match[1] if match else ""


def is_kfp_run(key: str) -> bool:
    """Whether a key is the id of a KFP run."""
    return re.fullmatch(_ID, key) is not None


def origin_tags(kfp_run: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The tags of an MLflow run that a KFP run makes; empty without a KFP run."""
    if not kfp_run:
        return {}
    ui = environ.get(KFP_UI, "").strip().rstrip("/").removesuffix("/#")
    return {KFP_RUN: kfp_run} | ({KFP_LINK: f"{ui}/#/runs/details/{kfp_run}"} if ui else {})


def run_title(name: str, method: str, kfp_run: str, now: datetime | None = None) -> str:
    """The name of an MLflow run: what was trained, when (UTC), and the beginning of the KFP run's id."""
    stamp = (now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M")
    return " ".join(part for part in (name, method, stamp, kfp_run[:8]) if part)

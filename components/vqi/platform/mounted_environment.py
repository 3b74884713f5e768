"""Settings and keys that a cluster mounts as files: read into the environment before anything else reads that.

As variables of a pod each key is an entry of the pod's specification, of which Argo stores seven copies a step in the
record of a run. A mounted ConfigMap or Secret is one entry, whatever keys it has.
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from pathlib import Path

FOLDER = Path("/etc/vqi")
# Each is a folder below FOLDER with a file a key; without its object the folder is empty.
SETTINGS, STORE, TRACKING = "settings", "store", "tracking"
# Kubernetes keeps the files of a volume in folders of its own beside them (`..data`).
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_mounted_environment(folder: Path = FOLDER, environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """Set a variable for each mounted key; what the environment has already stands. The names that were set.

    boto3, which MLflow stores artefacts with, reads AWS_REGION under another name: that is set as well. Raises OSError
    for a file that cannot be read.
    """
    values = {
        file.name: file.read_text(encoding="utf-8")
        for name in (SETTINGS, STORE, TRACKING)
        for file in sorted((folder / name).glob("*"))
        if VARIABLE.fullmatch(file.name) and file.is_file()
    }
    if region := environ.get("AWS_REGION") or values.get("AWS_REGION"):
        values.setdefault("AWS_DEFAULT_REGION", region)
    added = {name: value for name, value in values.items() if name not in environ}
    environ.update(added)
    return sorted(added)

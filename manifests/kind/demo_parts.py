"""Render the demo's photographs and store them: python manifests/kind/demo_parts.py s3://bucket/prefix. The store is
the environment's."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from vqi.dataset.generator import generate
from vqi.platform.errors import VqiError
from vqi.storage.object_store import Address, ObjectStore


def main(address: str) -> int:
    try:
        with tempfile.TemporaryDirectory() as folder:
            # As `vqi demo` renders them.
            generate(Path(folder), seed=0, normals=60, test_normals=20, defects_each=6, size=(320, 320))
            ObjectStore.from_environment().upload_folder(Path(folder), Address.parse(address))
    except VqiError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""A memory bank as a faiss index, for other tools. Ours search by one matrix product, which is as fast
(docs/benchmarks.md), and do not read it."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from vqi.deployment.bundle_files import INDEX
from vqi.platform.errors import BadInput

MEMORY_BANK = "memory_bank"


def write_faiss_index(source: Path, out: Path) -> tuple[int, int]:
    """Write the memory bank of a bundle, or of an index artefact, to the file `out` as a faiss IndexFlatL2; returns its
    vectors and their length.

    Searching it gives squared Euclidean distances. Raises BadInput where `source` has no memory bank (only patchcore
    has one).
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    # Its loader reports every instruction set it was not built for.
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    try:
        import faiss
    except ImportError as error:
        raise BadInput("faiss is not installed here; install faiss-cpu (or vqi[faiss]).") from error

    file = Path(source) / INDEX
    if not file.is_file():
        raise BadInput(
            f"{source} has no {INDEX}; give the folder of a bundle or of an index whose method keeps a memory bank."
        )
    try:
        bank = load_file(file).get(MEMORY_BANK)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{file} cannot be read ({type(error).__name__}); export again.") from error
    if bank is None:
        raise BadInput(f"{file} has no memory bank; of the methods only patchcore keeps one.")
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".vqi-", dir=out.parent) as folder:
        faiss.write_index(index, str(Path(folder) / "index"))
        os.replace(Path(folder) / "index", out)
    return bank.shape

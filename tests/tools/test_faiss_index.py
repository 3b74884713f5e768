"""A memory bank for other tools: faiss reads what is written, and finds what our own search finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from vqi.platform.errors import BadInput
from vqi.tools.faiss_index import write_faiss_index

faiss = pytest.importorskip("faiss")


def bundle(folder: Path, **tensors: np.ndarray) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "index.safetensors")
    return folder


def test_faiss_reads_the_bank_bit_for_bit_and_finds_the_nearest(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    bank, queries = (
        generator.standard_normal((200, 8), dtype=np.float32),
        generator.standard_normal((5, 8), dtype=np.float32),
    )
    assert write_faiss_index(bundle(tmp_path / "bundle", memory_bank=bank), tmp_path / "new" / "bank.faiss") == (200, 8)
    index = faiss.read_index(str(tmp_path / "new" / "bank.faiss"))
    assert np.array_equal(index.reconstruct_n(0, 200), bank)
    distances, numbers = index.search(queries, 1)
    exact = ((queries[:, None] - bank[None]) ** 2).sum(axis=2)
    assert numbers[:, 0].tolist() == exact.argmin(axis=1).tolist()
    assert np.allclose(distances[:, 0], exact.min(axis=1), rtol=1e-5)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["bank.faiss"]


def test_what_has_no_bank_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no memory bank; of the methods only patchcore"):
        write_faiss_index(bundle(tmp_path / "padim", mean=np.zeros((2, 2), np.float32)), tmp_path / "bank.faiss")
    with pytest.raises(BadInput, match=r"has no index\.safetensors"):
        write_faiss_index(tmp_path, tmp_path / "bank.faiss")
    (tmp_path / "padim" / "index.safetensors").write_bytes(b"damaged")
    with pytest.raises(BadInput, match="cannot be read"):
        write_faiss_index(tmp_path / "padim", tmp_path / "bank.faiss")
    assert not (tmp_path / "bank.faiss").exists()


def test_the_command_writes_it(tmp_path: Path) -> None:
    from vqi_pipelines.command import app

    folder = bundle(tmp_path / "bundle", memory_bank=np.eye(3, dtype=np.float32))
    done = CliRunner().invoke(app, ["export", str(folder), "--index", "faiss", "--out", str(tmp_path / "bank.faiss")])
    assert (done.exit_code, done.output.splitlines()[0].split(":")[0]) == (0, "3 vectors of 3 values")
    assert faiss.read_index(str(tmp_path / "bank.faiss")).ntotal == 3

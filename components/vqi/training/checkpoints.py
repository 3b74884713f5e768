"""Checkpoints: the last few and the best, each a folder that appears complete or not at all, in a folder or under an
s3:// prefix.

`tensors.safetensors` holds the learner's state, the optimiser's moments and what was observed; `state.json` the numbers
beside them and the hash of the tensors. Nothing is pickled. In an object store `state.json` is written last, so that an
upload that was cut short is not taken for a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.platform.files import canonical_json, sha256_of, whole_folder, write_json
from vqi.platform.logs import logger
from vqi.storage.object_store import Address, ObjectStore
from vqi.training.layouts import in_layout_of

log = logger(__name__)

TENSORS, STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def identity(facts: dict[str, Any]) -> str:
    """A name for the run that checkpoints belong to: whatever makes the weights what they are. Another seed or another
    set never resumes it."""
    return hashlib.sha256(canonical_json(facts)).hexdigest()[:20]


# How many of the last checkpoints of a run stay.
KEPT = 2


class Checkpoints:
    """The checkpoints of one run below `address` (a folder or an s3:// prefix), the last `keep` of them and the
    best."""

    def __init__(self, address: str, run: str, keep: int = KEPT) -> None:
        self.keep, self.store, self.prefix = keep, None, None
        self.shown = f"{address.rstrip('/')}/{run}"
        if "://" in address:
            self.prefix = Address.parse(self.shown)
            self.store = ObjectStore.from_environment()
            self.scratch = tempfile.TemporaryDirectory(prefix="vqi-checkpoints-")
            self.folder = Path(self.scratch.name)
        else:
            self.folder = Path(address) / run
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BadInput(
                    f"train.checkpoints is {address!r}, where no folder can be made ({error.strerror}); name another."
                ) from error

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; damaged ones are passed over with a word.

        It is what a run begins with: what the uploads of a killed one before it left in an object store is dropped.
        """
        self._abandon_uploads()
        for name in sorted(self._names(), reverse=True):
            if name.startswith("step-") and (checkpoint := self._read(name)):
                return checkpoint
        return None

    def best(self) -> Checkpoint | None:
        """The best checkpoint."""
        return self._read("best") if "best" in self._names() else None

    def save(self, checkpoint: Checkpoint, best: bool) -> None:
        """Write a checkpoint, as the best too where it is, and drop those that are no longer among the last.

        Raises RunFailed where it cannot be written, BadInput where an object store refuses it.
        """
        # The best first: killed in between, the run resumes before this step and writes both again. The other way round
        # it would miss its best.
        for name in (["best"] if best else []) + [f"step-{checkpoint.step:09d}"]:
            try:
                self._write(name, checkpoint)
            except OSError as error:
                raise RunFailed(f"The checkpoint {self.shown}/{name} cannot be written ({error.strerror}).") from error
        folders = self._folders()
        whole = sorted(
            name for name, files in folders.items() if name.startswith("step-") and files >= {TENSORS, STATE}
        )
        parts = [name for name, files in folders.items() if not files >= {TENSORS, STATE}]
        for name in whole[: -self.keep] + parts:
            self._remove(name)

    def remove_all(self) -> None:
        """Forget the run."""
        self._abandon_uploads()
        for name in self._folders():
            self._remove(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _names(self) -> set[str]:
        return {name for name, files in self._folders().items() if files >= {TENSORS, STATE}}

    def _folders(self) -> dict[str, set[str]]:
        """The files of every checkpoint, whole or not, by its name."""
        files: dict[str, set[str]] = {}
        if self.store is None or self.prefix is None:
            for path in self.folder.glob(f"*/{STATE}"):
                files[path.parent.name] = {file.name for file in path.parent.iterdir()}
            return files
        start = len(self.prefix.key) + 1
        for parts in (item.key[start:].split("/") for item in self.store.objects(self.prefix)):
            if len(parts) == 2:
                files.setdefault(parts[0], set()).add(parts[1])
        return files

    def _abandon_uploads(self) -> None:
        if self.store and self.prefix:
            # The second for stores that list unfinished uploads of a whole key only.
            self.store.abandon_uploads(self.prefix)
            self.store.abandon_uploads(self._address("best", TENSORS))

    def _address(self, name: str, file: str) -> Address:
        assert self.prefix
        return Address(self.prefix.bucket, f"{self.prefix.key}/{name}/{file}")

    def _write(self, name: str, checkpoint: Checkpoint) -> None:
        try:
            self._write_here(name, checkpoint)
            if self.store:
                for file in (TENSORS, STATE):
                    self.store.upload_file(self.folder / name / file, self._address(name, file))
        finally:
            if self.store:
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def _write_here(self, name: str, checkpoint: Checkpoint) -> None:
        from safetensors.torch import save_file

        with whole_folder(self.folder / name) as folder:
            # Clones: safetensors refuses tensors that share memory.
            save_file(
                {key: tensor.detach().cpu().contiguous().clone() for key, tensor in checkpoint.tensors.items()},
                folder / TENSORS,
            )
            write_json(
                folder / STATE,
                {**checkpoint.state, "step": checkpoint.step, "tensors_sha256": sha256_of(folder / TENSORS)},
            )

    def _read(self, name: str) -> Checkpoint | None:
        from safetensors.torch import load_file

        folder = self.folder / name
        try:
            if self.store:
                for file in (STATE, TENSORS):
                    self.store.download_file(self._address(name, file), folder / file)
            state = json.loads((folder / STATE).read_text())
            if sha256_of(folder / TENSORS) != state["tensors_sha256"]:
                raise ValueError("its tensors are not those its state was written with")
            return Checkpoint(int(state["step"]), load_file(folder / TENSORS), state)
        except VqiError:
            raise
        except Exception as error:
            log.warning(f"the checkpoint {self.shown}/{name} cannot be read ({error}); an older one is taken")
            return None
        finally:
            if self.store:
                shutil.rmtree(folder, ignore_errors=True)

    def _remove(self, name: str) -> None:
        # Its state first: without it the rest is not a checkpoint.
        if self.store:
            for file in (STATE, TENSORS):
                self.store.remove(self._address(name, file))
        else:
            (self.folder / name / STATE).unlink(missing_ok=True)
            shutil.rmtree(self.folder / name, ignore_errors=True)


def optimiser_state(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as named tensors, and the rest of it as JSON."""
    value = optimiser.state_dict()
    tensors, numbers = {}, {}
    for parameter, entries in value["state"].items():
        for name, entry in entries.items():
            if isinstance(entry, Tensor):
                tensors[f"{parameter}.{name}"] = entry
            else:
                numbers[f"{parameter}.{name}"] = entry
    return tensors, {"numbers": numbers, "groups": value["param_groups"]}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """The inverse of `optimiser_state`."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, entry in [*tensors.items(), *plain["numbers"].items()]:
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = (
            in_layout_of(parameters[int(number)], entry) if isinstance(entry, Tensor) else entry
        )
    optimiser.load_state_dict({"state": state, "param_groups": plain["groups"]})

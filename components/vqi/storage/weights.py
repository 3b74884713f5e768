"""Where network weights come from: torchvision's download, a file, an object store; checked, and never unpickled."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vqi.platform.errors import BadInput
from vqi.platform.files import sha256_of
from vqi.platform.logs import logger
from vqi.platform.records import Record

if TYPE_CHECKING:
    from torch import Tensor

log = logger(__name__)

Kind = Literal["imagenet", "file", "s3", "random", "none"]
RANDOM_LABEL = "random weights (for tests only)"
# What trainers put before a network's own names, also several of them (`module.encoder.`): DataParallel, MoCo's query
# encoder, SimSiam and others.
PREFIXES = ("module.", "encoder_q.", "backbone.", "encoder.", "model.")


class WeightsOrigin(Record):
    """Where a network's weights came from, as reports show it. `sha256` is that of the weights file, empty where there
    is none."""

    kind: Kind
    label: str
    sha256: str = ""


def load_weights(network: str, weights: str, sha256: str = "") -> tuple[dict[str, Tensor], WeightsOrigin]:
    """The state dict that `weights` names (`imagenet`, a file path or an `s3://` address) for torchvision's `network`,
    and its origin.

    Raises BadInput where it cannot be had, does not have the `sha256` asked for, or is not a plain state dict.
    """
    if weights == "imagenet":
        path, label = _imagenet_file(network)
        return _read(path, weights, sha256, "backbone.sha256"), WeightsOrigin(
            kind="imagenet", label=label, sha256=sha256_of(path)
        )
    return load_stored(
        weights,
        sha256,
        "backbone.weights",
        "backbone.sha256",
        "give imagenet, a file, an s3:// address, or random (for tests)",
    )


def load_stored(
    weights: str, sha256: str, setting: str, sha256_setting: str, advice: str
) -> tuple[dict[str, Tensor], WeightsOrigin]:
    """The state dict of a file or an `s3://` address, and its origin. `setting` and `sha256_setting` are what errors
    call the two, `advice` what they advise where there is no such file.

    Raises BadInput as `load_weights` does.
    """
    if weights.startswith("s3://"):
        from vqi.storage.object_store import download_file

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / (Path(weights).name or "weights")
            download_file(weights, path)
            return _read(path, weights, sha256, sha256_setting), WeightsOrigin(
                kind="s3", label=weights, sha256=sha256_of(path)
            )
    path = Path(weights).expanduser()
    log.debug(f"{setting}: {path.absolute()}")
    if not weights or not path.is_file():
        raise BadInput(f"{setting} is {weights!r}, but there is no such file; {advice}.")
    return _read(path, str(path), sha256, sha256_setting), WeightsOrigin(
        kind="file", label=path.name, sha256=sha256_of(path)
    )


def _imagenet_file(network: str) -> tuple[Path, str]:
    """torchvision's weights file for `network`, downloaded unless it is in torch's cache."""
    import torch

    from vqi.platform.torchvision_guard import torchvision

    choices = torchvision().models.get_model_weights(network)
    # V1 where there is one: the published results of the field were measured with it.
    chosen = getattr(choices, "IMAGENET1K_V1", None) or choices.DEFAULT
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(chosen.url).name
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _impatient_sockets():
                torch.hub.download_url_to_file(
                    chosen.url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False
                )
        except (OSError, RuntimeError) as error:
            raise BadInput(
                f"The ImageNet weights of {network} cannot be downloaded here ({error}); "
                "give a file with backbone.weights=PATH, or use backbone.name=filterbank, which needs none."
            ) from error
    return path, f"ImageNet (torchvision {chosen.name})"


@contextmanager
def _impatient_sockets(seconds: float = 20.0) -> Iterator[None]:
    """torch.hub sets no timeout: without one a firewall that drops packets would hold the step for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read(path: Path, name: str, sha256: str, setting: str) -> dict[str, Tensor]:
    """The tensors of a weights file: safetensors, or torch's own format read without its pickled code."""
    if sha256:
        actual = sha256_of(path)
        if actual != sha256.lower():
            raise BadInput(
                f"The weights {name} have sha256 {actual}, not {sha256} as {setting} says; check the file or the "
                "setting."
            )
    import torch
    from safetensors.torch import load_file

    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # both raise whatever the bytes make them meet
        raise BadInput(
            f"The weights {name} cannot be read as a plain state dict ({type(error).__name__}); save them with "
            "safetensors."
        ) from error
    return _state_dict(content, name)


def _state_dict(content: Any, name: str) -> dict[str, Tensor]:
    """The mapping of names to tensors in a checkpoint, unwrapped from `state_dict` or `model`, and from DataParallel's
    `module.`."""
    import torch

    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise BadInput(f"The weights {name} hold a {type(content).__name__}, not a state dict (names and tensors).")
    tensors = {
        key.removeprefix("module."): value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise BadInput(f"The weights {name} have no tensors; they are not a state dict.")
    return tensors


def without_prefix(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """The part of `state` that lies under one chain of PREFIXES, or under none, without it: the one under which most of
    the names `wanted` are found.

    The shorter chain is taken where several hold as many; where none holds any, all of `state` comes back.
    """
    chains = {""}
    for key in state:
        chain = ""
        while prefix := next((prefix for prefix in PREFIXES if key.startswith(chain + prefix)), ""):
            chain += prefix
            chains.add(chain)
    chosen = max(
        sorted(chains, key=lambda chain: (len(chain), chain)),
        key=lambda chain: sum(chain + name in state for name in wanted),
    )
    return {key.removeprefix(chosen): tensor for key, tensor in state.items() if key.startswith(chosen)}

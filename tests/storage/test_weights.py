import pickle

import pytest
import torch
from safetensors.torch import save_file

from vqi.platform.errors import BadInput
from vqi.platform.files import sha256_of
from vqi.storage.weights import load_weights, without_prefix


def test_safetensors_and_torch_files_load_with_their_hash(tmp_path):
    tensors = {"a": torch.arange(3.0)}
    save_file(tensors, tmp_path / "w.safetensors")
    torch.save({"model": tensors}, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        path = tmp_path / name
        state, origin = load_weights("resnet18", str(path), sha256_of(path).upper())
        assert torch.equal(state["a"], tensors["a"])
        assert (origin.kind, origin.label, origin.sha256) == ("file", name, sha256_of(path))


def test_another_hash_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=r"not 00ff as backbone\.sha256 says"):
        load_weights("resnet18", str(tmp_path / "w.safetensors"), "00ff")


class Payload:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_pickled_code_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Payload()))
    torch.save({"a": Payload()}, tmp_path / "zipped.pth")
    for name in ("w.pth", "zipped.pth"):
        with pytest.raises(BadInput, match="cannot be read as a plain state dict"):
            load_weights("resnet18", name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BadInput, match="state dict"):
        load_weights("resnet18", str(tmp_path / "w.pth"))


def test_a_missing_file_is_named():
    with pytest.raises(BadInput, match=r"'nowhere\.pth', but there is no such file"):
        load_weights("resnet18", "nowhere.pth")


def test_no_network_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(BadInput, match=r"cannot be downloaded here \(no route to host\); give a file.*filterbank"):
        load_weights("resnet18", "imagenet")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "encoder_q.", "backbone.", "encoder.", "module.encoder.", "module.encoder_q.", "model.backbone."],
)
def test_names_match_whatever_trainers_put_before_them(prefix):
    own = {"conv1.weight": torch.ones(1), "layer1.0.bn1.bias": torch.ones(2)}
    state = {f"{prefix}{name}": tensor for name, tensor in own.items()}
    # A momentum encoder with other weights, a projector in the classifier's place, a predictor.
    state |= {f"module.encoder_k.{name}": torch.zeros(1) for name in own}
    state |= {f"{prefix}fc.0.weight": torch.zeros(1), "module.predictor.0.weight": torch.zeros(1)}
    weights = without_prefix(state, own)
    assert {name: weights[name] for name in own} == own


def test_the_prefix_is_the_one_that_holds_most():
    state = {
        "encoder.a": torch.zeros(1),
        "backbone.a": torch.ones(1),
        "backbone.b": torch.ones(1),
        "module.c": torch.zeros(1),
    }
    assert set(without_prefix(state, ["a", "b"])) == {"a", "b"}
    assert without_prefix(state, ["z"]) == state

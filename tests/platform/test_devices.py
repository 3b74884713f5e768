import subprocess
import sys

import pytest
import torch

from vqi.detectors.compute import to_device
from vqi.platform.devices import Compute, torch_device
from vqi.platform.errors import BadInput
from vqi.platform.settings import read_settings


def test_the_cpu_is_always_available():
    assert torch_device(Compute()) == torch.device("cpu")


@pytest.mark.parametrize("device", ["xpu", "hpu", "cuda"])
def test_an_absent_device_is_one_sentence(device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(BadInput, match=f"compute.device is {device}, but .*compute.device=cpu"):
        torch_device(Compute(device=device))


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"precision": "int8"}, {"batch_size": 0}])
def test_what_is_no_device_precision_or_batch_size_is_refused(wrong):
    with pytest.raises(BadInput, match=f"compute.{next(iter(wrong))}"):
        read_settings(Compute, wrong, "compute.")


@pytest.mark.slow
def test_torchvision_loads_beside_a_torch_that_cannot_load_its_operators():
    """As beside a CPU-only torch: loading the operators fails, and a network can still be cut at a node."""
    code = """
import torch
def refuse(path): raise OSError("libcudart.so is missing")
torch.ops.load_library = refuse
try:
    import torchvision
except RuntimeError as error:
    assert "torchvision::nms" in str(error)
    import sys
    for name in [name for name in sys.modules if name.startswith("torchvision")]: del sys.modules[name]
else:
    raise SystemExit("the trap is gone: the guard is no longer needed")
from vqi.detectors.backbones import create_backbone
from vqi.detectors.settings import BackboneSettings
backbone = create_backbone(BackboneSettings(weights="random", layers=("layer1",)), {})
print(tuple(backbone(torch.zeros(1, 3, 64, 64))["layer1"].shape))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(1, 64, 16, 16)", done.stderr[-2000:]


def test_parts_that_a_detector_names_stay_contiguous() -> None:
    class Named(torch.nn.Module):
        contiguous = ("flow",)
        engine = None

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.flow, self.index = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(3, 4, 3), {}

    detector = to_device(Named(), Compute())
    assert detector.backbone.weight.is_contiguous(memory_format=torch.channels_last)
    assert detector.flow.weight.is_contiguous()

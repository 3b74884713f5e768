"""The one module that knows devices and precisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field, field_validator

from vqi.platform.errors import BadInput
from vqi.platform.settings import Settings

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "xpu", "hpu")
Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
EngineName = Literal["torch", "openvino"]
# What drivers call NVIDIA's and Intel's devices.
ACCELERATORS = ("nvidia[0-9]*", "nvidiactl", "dri/renderD*")
# What the kernel calls the instructions that multiply bfloat16: AMX, and AVX-512's.
BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})


class Compute(Settings):
    """Where and how the network runs. Scores are float32 always.

    `cuda:0,1` names several devices: training runs one process on each, everything else uses the first.
    """

    device: str = Field("auto", description="auto, cpu, cuda, xpu or hpu")
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="what runs a network that learns no more on a processor; auto = OpenVINO where it is installed and "
        "agrees with torch",
    )
    precision: Precision = Field("float32", description="of the network's forward pass")
    batch_size: int = Field(8, ge=1, le=4096, description="images a batch")
    shards: int = Field(
        1, ge=1, le=100, description="parallel tasks that compute the index, each of a part of the normals (patchcore)"
    )

    @field_validator("device")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value.split(":")[0] not in DEVICES:
            raise ValueError(f"must be one of {', '.join(DEVICES)}")
        return value

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device that is named: `cuda:0,1` is cuda:0 and cuda:1."""
        kind, _, numbers = self.device.partition(":")
        return tuple(f"{kind}:{number.strip()}" for number in numbers.split(",")) if numbers else (kind,)

    def of_process(self, rank: int) -> Compute:
        """What process `rank` of several runs on: the device at that position in the list, or the accelerator of that
        number."""
        if len(self.devices) > 1:
            return self.model_copy(update={"device": self.devices[rank % len(self.devices)]})
        kind = str(torch_device(self))
        return self.model_copy(update={"device": kind if kind == "cpu" or ":" in kind else f"{kind}:{rank}"})


def is_processor(compute: Compute, devices: Path = Path("/dev")) -> bool:
    """Whether the device of `compute` is the processor; `auto` is where no accelerator shows among the system's
    `devices`. Needs no torch."""
    if compute.devices[0] == "auto":
        return not any(next(devices.glob(pattern), None) for pattern in ACCELERATORS)
    return compute.devices[0] == "cpu"


def bfloat16_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies bfloat16 by instructions of its own; without them it gains nothing by it.

    True where the kernel does not say.
    """
    flags = _processor_flags(cpuinfo)
    return flags is None or bool(BFLOAT16_FLAGS & flags)


def int8_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies and adds up int8 in one instruction. False where the kernel does not say: older
    processors add up in 16 bits, which overflow."""
    return bool(INT8_FLAGS & (_processor_flags(cpuinfo) or set()))


def _processor_flags(cpuinfo: Path) -> set[str] | None:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = next((line for line in lines if line.startswith("flags")), None)
    return None if flags is None else set(flags.split())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is a device's or the machine's way of saying that memory does not suffice."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "can't allocate memory")
    )


def torch_device(compute: Compute) -> torch.device:
    """The torch device of `compute`, the first where several are named, checked to be there. Raises BadInput where it
    is not."""
    import torch

    first = compute.devices[0]
    kind = first.split(":")[0]
    if kind == "auto":
        kind = next((name for name in ("cuda", "xpu") if getattr(torch, name).is_available()), "cpu")
        return torch.device(kind)
    if kind == "hpu":
        try:
            import habana_frameworks.torch  # noqa: F401
        except ImportError as error:
            raise BadInput(
                "compute.device is hpu, but habana_frameworks is not installed; use the Gaudi image, or "
                "compute.device=cpu."
            ) from error
        return torch.device(first)
    if kind in ("cuda", "xpu") and not getattr(torch, kind).is_available():
        raise BadInput(
            f"compute.device is {compute.device}, but torch finds no such device here; use compute.device=cpu."
        )
    return torch.device(first)

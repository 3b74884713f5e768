"""A bundle's graph running on ONNX Runtime or OpenVINO: the index is handed over once, then images go in and raw scores
come out. No torch."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from vqi.deployment.bundle import INDEX, ONNX, OPENVINO, Sidecar
from vqi.platform.errors import BadInput, RunFailed, closest
from vqi.platform.threads import thread_limit

# OpenVINO first: 44 to 50 ms of processor time an image against ONNX Runtime's 49 to 67 (PatchCore, ResNet-18, 256 px,
# AVX-512).
BACKENDS = ("openvino", "onnxruntime")


class GraphRuntime(ABC):
    """One backend with one graph loaded, for images of one size."""

    backend: str

    def __init__(self, input_size: tuple[int, int]) -> None:
        self.input_size = input_size

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Raw scores float32 [N] and maps float32 [N, h, w] of float32 [N, 3, h, w] in [0, 1], N >= 1.

        Raises BadInput where the images are others than the graph takes, and RunFailed where the backend fails.
        """
        height, width = self.input_size
        if images.dtype != np.float32 or images.ndim != 4 or images.shape[1:] != (3, height, width) or len(images) == 0:
            raise BadInput(
                f"The images are {images.dtype} of shape {list(images.shape)}; this graph takes float32, [images, 3, "
                f"{height}, {width}]."
            )
        try:
            return self._scored(images)
        except Exception as error:  # both runtimes have exception classes of their own, none with a common base
            raise RunFailed(
                f"{self.backend} failed on a batch of {len(images)}: {_one_line(error)}; try a smaller batch."
            ) from error

    @abstractmethod
    def _scored(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `run` returns, of images that the graph takes."""


class OnnxRuntimeGraph(GraphRuntime):
    """ONNX Runtime; float32 is what it computes in wherever a graph says float32."""

    backend = "onnxruntime"

    def __init__(
        self, folder: Path, input_size: tuple[int, int], index: dict[str, np.ndarray], device: str, threads: int
    ) -> None:
        import onnxruntime

        super().__init__(input_size)
        providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
        provider = providers.get(device)
        if provider not in onnxruntime.get_available_providers():
            available = [
                name for name, provider in providers.items() if provider in onnxruntime.get_available_providers()
            ]
            raise BadInput(f"ONNX Runtime has no device {device!r} here; it has {', '.join(available)}.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(folder / ONNX), options, providers=[provider])
            self._index = {
                name: onnxruntime.OrtValue.ortvalue_from_numpy(value, device) for name, value in index.items()
            }
        except Exception as error:
            raise RunFailed(f"ONNX Runtime cannot load {folder / ONNX}: {_one_line(error)}.") from error
        self._to_value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._device = device

    def _scored(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = self._session.run_with_ort_values(
            ["score", "map"], {"images": self._to_value(images, self._device), **self._index}
        )
        return values[0].numpy(), values[1].numpy()


class OpenVinoGraph(GraphRuntime):
    """OpenVINO, in float32: left to itself it computes in bfloat16 on processors that have it, and maps move by more
    than a percent."""

    backend = "openvino"

    def __init__(
        self, folder: Path, input_size: tuple[int, int], index: dict[str, np.ndarray], device: str, threads: int
    ) -> None:
        import openvino

        super().__init__(input_size)
        core = openvino.Core()
        name = device.upper()
        available = [device_name.split(".")[0].lower() for device_name in core.available_devices]
        if device not in available:
            raise BadInput(f"OpenVINO has no device {device!r} here; it has {', '.join(sorted(set(available)))}.")
        properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if device == "cpu" and threads:
            properties["INFERENCE_NUM_THREADS"] = threads
        try:
            self._request = core.compile_model(folder / OPENVINO, name, properties).create_infer_request()
            # Kept here: the request reads the arrays' own memory.
            self._index = index
            for tensor, value in index.items():
                self._request.set_tensor(tensor, openvino.Tensor(value, shared_memory=True))
        except Exception as error:
            raise RunFailed(f"OpenVINO cannot load {folder / OPENVINO}: {_one_line(error)}.") from error
        self._tensor = openvino.Tensor

    def _scored(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._request.set_tensor("images", self._tensor(images, shared_memory=True))
        self._request.infer()
        # Copies: the next call writes over these.
        return self._request.get_tensor("score").data.copy(), self._request.get_tensor("map").data.copy()


def open_graph(
    folder: Path, sidecar: Sidecar, backend: str = "auto", device: str = "cpu", threads: int = 0
) -> GraphRuntime:
    """The graph of a bundle whose files were checked, on `backend`; `threads` 0 = the backend's choice, within this
    container's CPU limit.

    auto: the first of BACKENDS that is installed, or ONNX Runtime where the device is `cuda`, which OpenVINO has not.
    Raises BadInput where the backend is unknown or not installed, and where the index does not fit the sidecar.
    """
    kinds: dict[str, type[OnnxRuntimeGraph] | type[OpenVinoGraph]] = {
        "onnxruntime": OnnxRuntimeGraph,
        "openvino": OpenVinoGraph,
    }
    if backend not in ("auto", *kinds):
        raise BadInput(f"The backend is {backend!r}, which is none here.{closest(backend, ['auto', *kinds])}")
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    if not installed or backend not in ("auto", *installed):
        raise BadInput(
            f"{'No backend' if backend == 'auto' else f'The backend {backend}'} is installed here; install vqi with "
            "its extra 'predict'."
        )
    chosen = ("onnxruntime" if device == "cuda" else installed[0]) if backend == "auto" else backend
    return kinds[chosen](
        Path(folder), sidecar.geometry.input_size, read_index(folder, sidecar), device, threads or thread_limit()
    )


def read_index(folder: Path, sidecar: Sidecar) -> dict[str, np.ndarray]:
    """The index tensors of a bundle. Raises BadInput where they are not those the sidecar names."""
    expected = {tensor.name: (tensor.dtype, tuple(tensor.shape)) for tensor in sidecar.graph.index}
    if not expected:
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder) / INDEX
    try:
        index = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{path} is not a readable index ({_one_line(error)}); export again.") from error
    tensors = {name: (str(value.dtype), value.shape) for name, value in index.items()}
    if tensors != expected:
        raise BadInput(f"{path} does not hold the index tensors that its bundle.json names; export again.")
    return {name: np.ascontiguousarray(value) for name, value in index.items()}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__

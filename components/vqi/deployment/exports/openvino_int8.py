"""OpenVINO with its network in eight bits, quantised after training by NNCF."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vqi.deployment.exports.openvino import OpenVino
from vqi.deployment.exports.openvino_graph import network_of, with_network
from vqi.platform.errors import RunFailed
from vqi.platform.logs import logger

if TYPE_CHECKING:
    import openvino

    from vqi.deployment.tracing import TracedDetector

log = logger(__name__)

# Normals that the ranges of activations are taken from, at most: NNCF's own default is 300.
NORMALS = 300
# What scores are computed by outside of networks: no time is spent there, and a difference of two features is small
# beside them. OpenVINO 2026.4 does not compile some of it in int8 (stfpm).
EXACT = (
    "Divide",
    "Interpolate",
    "MatMul",
    "Multiply",
    "NormalizeL2",
    "Power",
    "ReduceL2",
    "ReduceMean",
    "ReduceSum",
    "Subtract",
)
# Without which NNCF reports its use over the network, where openvino-telemetry is installed.
SILENT = "NNCF_CI"


class OpenVinoInt8(OpenVino):
    """Of a method with an index the network alone is in int8: what its features are compared with stays as it was, and
    the search for neighbours is that of `openvino`. A method without an index is quantised whole.

    Scores move by percents, so that decisions near the threshold may differ: the test split judges it
    (`export.int8_max_drop`).
    """

    name: ClassVar[str] = "openvino-int8"
    summary: ClassVar[str] = "OpenVINO with its network in 8 bits, for processors that multiply those faster"
    backend: ClassVar[str] = "openvino-int8"
    files: ClassVar[tuple[str, ...]] = ("openvino-int8/model.xml", "openvino-int8/model.bin")
    writes_with: ClassVar[tuple[str, ...]] = (*OpenVino.writes_with, "nncf")
    precision: ClassVar[str] = "int8"
    tolerance: ClassVar[float | None] = 0.2
    judged_by_accuracy: ClassVar[bool] = True
    preference: ClassVar[int] = 4

    def precision_of(self, source: TracedDetector) -> str:
        return self.precision

    def assemble(self, model: openvino.Model, source: TracedDetector) -> openvino.Model:
        import openvino

        normals = evenly(source.normals, NORMALS)
        if not normals:
            raise RunFailed("The set holds 0 training normals, and int8 takes the ranges of activations from them.")
        if not source.index:
            return quantise(model, normals)
        network = openvino.Core().read_model(source.engine.graph) if source.engine else network_of(model)
        return with_network(model, quantise(network, normals), "float32")


def evenly(normals: Iterable[np.ndarray], most: int) -> list[np.ndarray]:
    """At most so many of the normals, from all of them where their number is known."""
    step = max(1, -(-len(normals) // most)) if isinstance(normals, Sized) else 1
    return list(islice(normals, 0, most * step, step))


def with_extremes(normals: list[np.ndarray]) -> list[np.ndarray]:
    """The normals, and images in float32 [3, h, w] whose values they do not have: black, white, and negatives of every
    fourth. Ranges of normals alone cut off what a bright or a dark defect is seen by."""
    first = normals[0]
    return [*normals, np.zeros_like(first), np.ones_like(first), *(1 - image for image in normals[::4])]


def quantise(model: openvino.Model, normals: list[np.ndarray]) -> openvino.Model:
    """The model in int8, wherever NNCF can; the ranges of its values are taken from `normals` float32 [3, h, w]."""
    nncf = _nncf()
    parameters = importlib.import_module("nncf.quantization.advanced_parameters")
    ranges = importlib.import_module("nncf.quantization.range_estimator")
    log.info(f"quantisation: ranges of {len(normals)} training normals")
    images = with_extremes(normals)
    # Batch normalisation becomes a part of the convolution before it: nothing is rounded between.
    transformations = importlib.import_module("openvino._offline_transformations")
    transformations.apply_moc_transformations(model, cf=False)
    with contextlib.redirect_stdout(io.StringIO()):  # of its progress, which is not a result
        return nncf.quantize(
            model,
            nncf.Dataset(images, lambda image: image[None]),
            # Ranges as wide as the widest image, not their mean: a defect lies further out, and what is cut off there
            # is what is looked for. PatchCore on cookie: the scores of defects move by -.29 % on average, by NNCF's own
            # ranges of the normals by -.81 %.
            preset=nncf.QuantizationPreset.MIXED,
            advanced_parameters=parameters.AdvancedQuantizationParameters(
                activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX
            ),
            subset_size=len(images),
            # A layer's bias is mended by what the layers before it, quantised, hand on, not by its own rounding alone.
            # PatchCore: scores move by .0053 (standard deviation) in place of .0105 on cookie, .0114 of .0132 on
            # magnetic_tile.
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(types=list(EXACT), validate=False),
            target_device=nncf.TargetDevice.CPU,
        )


def _nncf() -> Any:
    """NNCF, imported so that it reports nothing."""
    with _environment(SILENT, "1"):
        nncf = importlib.import_module("nncf")
    nncf.set_log_level(logging.ERROR)
    return nncf


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

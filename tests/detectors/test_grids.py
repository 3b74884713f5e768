"""Where features lie: every method's map at any image size, and pooling that leaves nothing out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from normals import Batches, smooth_images
from torch import Tensor

from every_method import SMALL
from vqi.deployment.exports import check_formats
from vqi.deployment.graph_export import export_graphs
from vqi.detectors.backbones import create_backbone
from vqi.detectors.dfm import Dfm
from vqi.detectors.features import CommonGrid
from vqi.detectors.grids import Cells, Grid, averaging, interpolation
from vqi.detectors.interface import Detector
from vqi.detectors.maps import MapUpsampling
from vqi.detectors.registry import create
from vqi.detectors.settings import SETTINGS, BackboneSettings

RANDOM = BackboneSettings(weights="random")
SIZES = [(240, 256), (250, 257), (257, 250)]
# Pixels of the input that a cell of every map is long, finest map first; cs_flow enlarges its smaller images' cells.
PITCHES: Mapping[str, tuple[float, ...]] = {
    "patchcore": (8,),
    "padim": (4,),
    "vgg_cam": (16,),
    "efficient_ad": (4,),
    "stfpm": (4, 8, 16),
    "fastflow": (4, 8, 16),
    "cs_flow": (16, 32, 64),
    "dfm": (32,),
    "simsiam": (32,),
    "cutpaste": (32,),
}


def created(method: str, size: tuple[int, int], **settings: object) -> Detector:
    backbone = BackboneSettings(name="vgg11", weights="random") if method == "vgg_cam" else RANDOM
    return create(method, {**SMALL.get(method, {}), **settings}, backbone, size, seed=0)


def centroid(weights: Tensor) -> float:
    """The mean index of non-negative weights [n]."""
    return float((weights * torch.arange(len(weights))).sum() / weights.sum())


def test_every_method_is_looked_at() -> None:
    # draem's map is made pixel by pixel; cflow's outermost positions stand for the image's borders, as published.
    assert set(PITCHES) | {"draem", "cflow"} == set(SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("method", PITCHES)
def test_a_feature_lies_in_the_map_where_its_cell_is(method: str, size: tuple[int, int]) -> None:
    maps = [module for module in created(method, size).modules() if isinstance(module, MapUpsampling)]
    for upsample, pitch in zip(maps, PITCHES[method], strict=True):
        for axis, matrix in enumerate((upsample.rows, upsample.columns)):
            count, side, length = matrix.shape[1], size[axis], pitch
            if method in ("dfm", "simsiam", "cutpaste"):
                length = 16 * -(-side // 16) / count  # equal cells over what the features cover
            elif method == "cs_flow":
                length = 16 * side / -(-side // (pitch / 16))
            margin = 1 + int(16 / length)  # what the Gaussian reflects at the borders
            inner = range(margin, count - margin - 1)
            assert inner or count <= 5
            for cell in inner:
                assert centroid(matrix[:, cell]) == pytest.approx((cell + 0.5) * length - 0.5, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("side", [240, 250, 257])
@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("resnet18", "layer2"),
        ("resnet18", "layer3"),
        ("vgg11", "features.9"),
        ("alexnet", "features.11"),
        ("filterbank", "octave3"),
    ],
)
def test_cells_lie_where_the_network_reads(name: str, node: str, side: int) -> None:
    """The centroid of a position's squared gradient keeps its distance from the cell's centre all over the image."""
    backbone = create_backbone(BackboneSettings(name=name, weights="random", layers=(node,)), {})
    cells = backbone.grids((side, side))[node].columns
    near, far = cells.count // 3, cells.count - 1 - cells.count // 3
    offsets = []
    for cell in (near, far):
        images = torch.rand(8, 3, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
        backbone(images)[node][:, :, near, cell].sum().backward()
        assert images.grad is not None
        energy = images.grad.square().sum(dim=(0, 1, 2))
        offsets.append(centroid((energy - energy.median()).clamp(min=0)) + 0.5 - float(cells.centres()[cell]))
    assert max(map(abs, offsets)) <= cells.pitch / 2 + 1
    assert offsets[0] == pytest.approx(offsets[1], abs=1.5)


def test_a_network_that_does_not_pad_lacks_as_much_on_either_side() -> None:
    assert Cells.of_stride(29, 8, 256) == Cells(29, 8, 12.0)
    assert Cells.of_stride(16, 16, 250) == Cells(16, 16)
    assert Cells.of_stride(15, 16, 250) == Cells(15, 16)
    assert Cells.of_stride(1, 0, 250) == Cells(1, 250)


@pytest.mark.parametrize("kind", ["bilinear", "nearest"])
def test_layers_meet_where_their_cells_do(kind: str) -> None:
    fine, coarse = Cells.of_stride(33, 8, 257), Cells.of_stride(17, 16, 257)
    values = torch.rand(1, 2, 17, 17, generator=torch.Generator().manual_seed(0))
    common = CommonGrid({"fine": Grid(fine, fine), "coarse": Grid(coarse, coarse)}, kind=kind)
    resampled = common([torch.zeros(1, 2, 33, 33), values])[1]
    # Twice as many cells of half the length, of which the last lies beyond the finer layer.
    corners = False if kind == "bilinear" else None
    expected = F.interpolate(values, size=(34, 34), mode=kind, align_corners=corners)[..., :33, :33]
    torch.testing.assert_close(resampled, expected)


@pytest.mark.parametrize(("length", "size"), [(16, 256), (7, 250), (1, 9)])
def test_interpolation_of_cells_that_fill_the_image_is_torchs(length: int, size: int) -> None:
    identity = torch.eye(length, dtype=torch.float64)[None]
    for corners, cells in ((False, Cells.filling(length, size)), (True, Cells.on_corners(length, size))):
        expected = F.interpolate(identity, size=size, mode="linear", align_corners=corners)[0].T
        torch.testing.assert_close(torch.from_numpy(interpolation(cells, Cells(size, 1.0).centres())), expected)


@pytest.mark.parametrize(("length", "count"), [(15, 8), (16, 8), (7, 3), (5, 1), (4, 4)])
def test_an_average_counts_every_value_once(length: int, count: int) -> None:
    matrix = torch.from_numpy(averaging(length, count))
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(count, dtype=torch.float64))
    torch.testing.assert_close(matrix.sum(dim=0), torch.full((length,), count / length, dtype=torch.float64))


@pytest.mark.parametrize("localisation", ["error", "patch"])
@pytest.mark.parametrize(("side", "pool"), [(80, 2), (72, 2), (112, 3), (112, 5), (112, 7)])
def test_dfm_pools_every_feature(localisation: str, side: int, pool: int) -> None:
    detector = created("dfm", (side, side), pool=pool, localisation=localisation, smoothing=0)
    assert isinstance(detector, Dfm)
    detector.build_index(Batches(smooth_images(6, side)))
    embedding = detector.embed(smooth_images(1, side, seed=9))
    plain = detector.score(embedding, detector.index)
    height, width = detector.embedding_grid.shape
    for row, column in ((0, 0), (height - 1, 0), (0, width - 1), (height - 1, width - 1), (height // 2, width // 2)):
        changed = embedding.clone()
        changed[:, :, row, column] += 100
        scores = detector.score(changed, detector.index)
        assert float(scores.image) > 2 * float(plain.image)
        if min(detector.pooling.shape) < 3:
            continue  # the map of one or two cells is flat beyond their middles
        peak = int((scores.map - plain.map).argmax())
        cell = 16 if localisation == "patch" else 16 * height / detector.pooling.shape[0]
        for coordinate, position in ((peak // side, row), (peak % side, column)):
            assert abs(coordinate + 0.5 - min(16 * (position + 0.5), side)) <= max(cell, 16) / 2 + 1


def test_dfm_pools_by_averages_where_the_grid_is_a_multiple_of_the_pool() -> None:
    detector = created("dfm", (64, 96))
    assert isinstance(detector, Dfm)
    embedding = torch.rand(2, 256, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(detector._pool(embedding), F.avg_pool2d(embedding, 2).flatten(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "backbone", "settings"),
    [
        ("dfm", RANDOM, {}),
        ("dfm", RANDOM, {"pool": 3, "localisation": "patch"}),
        ("patchcore", RANDOM, {"coreset_ratio": 0.2}),
        ("padim", RANDOM, {"resize": "nearest"}),
        ("patchcore", BackboneSettings(name="filterbank"), {"coreset_ratio": 0.2}),
    ],
    ids=["dfm", "dfm by patches", "patchcore", "padim nearest", "patchcore filterbank"],
)
def test_graphs_agree_at_odd_sizes(method: str, backbone: BackboneSettings, settings: Any, tmp_path: Path) -> None:
    size = (81, 81)
    detector = create(method, settings, backbone, size, seed=0)
    detector.build_index(Batches(smooth_images(5, 88)[:, :, :81, :81]))
    images = smooth_images(3, 88, seed=9)[:, :, :81, :81].contiguous()
    with torch.inference_mode():
        expected = detector(images)
    export_graphs(detector, tmp_path)
    index = {name: tensor.numpy() for name, tensor in detector.index.items()}
    for export_format in check_formats(("onnx", "openvino")):
        score, values = export_format.open(tmp_path, size, index, "cpu", 1)(images.numpy())
        np.testing.assert_allclose(score, expected.image, rtol=1e-3)
        np.testing.assert_allclose(values, expected.map, rtol=2e-3, atol=1e-3 * float(expected.map.max()))

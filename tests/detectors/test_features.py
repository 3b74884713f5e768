"""Feature maps on one grid, channels last: the exported graph takes another way, to the same values."""

import pytest
import torch
from torch import Tensor, nn

from vqi.detectors.features import CommonGrid
from vqi.detectors.grids import Cells, Grid


class _ChannelsLast(nn.Module):
    def __init__(self, common: CommonGrid) -> None:
        super().__init__()
        self.common = common

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        return torch.cat(self.common.channels_last([fine, coarse]), dim=3)


@pytest.mark.parametrize("kind", ["bilinear", "nearest"])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 90)])
def test_an_exported_graph_brings_layers_to_one_grid_as_torch_does(kind: str, height: int, width: int) -> None:
    def grid(stride: int) -> Grid:
        return Grid(*(Cells.of_stride(-(-size // stride), stride, size) for size in (height, width)))

    grids = {"fine": grid(8), "coarse": grid(16)}
    module = _ChannelsLast(CommonGrid(grids, kind=kind)).eval()
    random = torch.Generator().manual_seed(0)
    fine, coarse = (torch.randn(3, 5, *grids[name].shape, generator=random) for name in ("fine", "coarse"))
    batch = ({0: torch.export.Dim.AUTO},) * 2
    program = torch.export.export(module, (fine[:2], coarse[:2]), dynamic_shapes=batch, strict=False).module()
    expected = module(fine, coarse)
    assert expected.shape == (3, *grids["fine"].shape, 10)
    torch.testing.assert_close(program(fine, coarse), expected, rtol=1e-5, atol=1e-6)

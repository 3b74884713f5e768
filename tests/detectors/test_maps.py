import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from vqi.detectors.maps import MapUpsampling
from vqi.detectors.upsampling import smoothed_interpolation


def test_two_matrices_are_interpolation_and_gaussian():
    grid = torch.rand(2, 9, 12, generator=torch.Generator().manual_seed(0))
    maps = MapUpsampling((9, 12), (72, 96), 4.0)(grid)
    interpolated = (
        F.interpolate(grid[:, None], size=(72, 96), mode="bilinear", align_corners=False)[:, 0].double().numpy()
    )
    for image, expected in zip(maps, interpolated, strict=True):
        torch.testing.assert_close(
            image.double(), torch.from_numpy(gaussian_filter(expected, 4.0, mode="mirror")), rtol=1e-5, atol=1e-6
        )


def test_a_flat_grid_stays_flat_even_where_the_gaussian_is_wider_than_the_axis():
    for sigma in (0.0, 4.0, 64.0):
        matrix = torch.from_numpy(smoothed_interpolation(4, 32, sigma))
        torch.testing.assert_close(matrix.sum(dim=1), torch.ones(32))

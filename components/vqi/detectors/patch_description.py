"""The patch description network of EfficientAD (Batzner et al., arXiv 2303.14535, section 3.1 and appendix A) and its
published weights' names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqi.platform.errors import BadInput

# Convolutions of each size: kernel, outputs (0 = as many as the network describes a patch with). An average pool
# follows each of the first two.
LAYERS = {
    "small": ((4, 128), (4, 256), (3, 256), (4, 0)),
    "medium": ((4, 256), (4, 512), (1, 512), (3, 512), (4, 0), (1, 0)),
}
# Pixels between two positions.
STRIDE = 4
# What a network without padding lacks at each border of the grid that has a position every `STRIDE` pixels.
MARGIN = 4
# The published teachers' recipe. It is the network's own, not the backbone's: a teacher that is distilled here has the
# same.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def grid_size(input_size: tuple[int, int]) -> tuple[int, int]:
    """Positions that a network without padding describes: one every four pixels, none within `MARGIN` of a border.
    BadInput where none is left."""
    height, width = (-(-side // STRIDE) - 2 * MARGIN for side in input_size)
    if min(height, width) < 1:
        raise BadInput(
            f"The networks of efficient_ad see 33 x 33 pixels at once, the images have {input_size[0]} x "
            f"{input_size[1]}; raise image.size."
        )
    return height, width


class PatchDescription(nn.Module):
    """Describes patches of 33 x 33 pixels, one every four pixels, by `channels` numbers each. Without padding, as for
    training and testing."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: str, channels: int) -> None:
        super().__init__()
        self.channels = channels
        incoming = 3
        for number, (kernel, outputs) in enumerate(LAYERS[size], start=1):
            self.add_module(f"conv{number}", nn.Conv2d(incoming, outputs or channels, kernel))
            incoming = outputs or channels
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, channels: slice = slice(None)) -> Tensor:
        """float32 [N, 3, H, W] in [0, 1] -> the asked-for `channels` of every description, float32 [N, c, h, w]; see
        `grid_size`."""
        *hidden, last = (layer for layer in self.children() if isinstance(layer, nn.Conv2d))
        values = (images - self.mean) / self.std
        for number, convolution in enumerate(hidden):
            values = F.relu(convolution(values), inplace=True)
            if number < 2:
                values = F.avg_pool2d(values, 2)
        assert last.bias is not None
        # Outputs that nobody asked for need not be computed: the student's last layer is half of its work.
        return F.conv2d(values, last.weight[channels], last.bias[channels]).float()

    def load(self, state: Mapping[str, Tensor], name: str) -> None:
        """Take over the weights of the file `name`: layers named as here, below any prefix, or numbered in a row.
        BadInput where they do not fit."""
        wanted = self.state_dict()
        stored = _rename(state)
        for key, tensor in wanted.items():
            if key not in stored:
                listing = ", ".join(sorted({entry.rpartition(".")[0] for entry in state})[:12])
                raise BadInput(
                    f"The weights {name} hold no {key} of a patch description network; they hold: {listing}."
                )
            if stored[key].shape != tensor.shape:
                shapes = f"{list(stored[key].shape)}, not {list(tensor.shape)}"
                raise BadInput(
                    f"The weights {name} have {key} of shape {shapes}; is method.settings.model_size that of the "
                    "teacher?"
                )
        if len(stored) > len(wanted):
            raise BadInput(
                f"The weights {name} have more layers than method.settings.model_size has; is it that of the teacher?"
            )
        self.load_state_dict({key: stored[key].float() for key in wanted})


def _rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of the teacher among `state`, under the names used here."""
    numbered = sorted({int(match[1]) for key in state if (match := re.fullmatch(r"(\d+)\.(weight|bias)", key))})
    if numbered:
        return {
            f"conv{numbered.index(int(key.split('.')[0])) + 1}.{key.split('.')[1]}": value
            for key, value in state.items()
            if key[0].isdigit()
        }
    prefixes = sorted(key.removesuffix("conv1.weight") for key in state if key.endswith("conv1.weight"))
    # A whole model's file holds the student too.
    prefix = next((prefix for prefix in prefixes if "teacher" in prefix), prefixes[0] if prefixes else "")
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}

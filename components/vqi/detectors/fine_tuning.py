"""A backbone that learns from the normals first, and then exactly DFM on it: what SimSiam and CutPaste have in
common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.modules.batchnorm import _BatchNorm

from vqi.detectors.backbones import Backbone
from vqi.detectors.dfm import Dfm
from vqi.detectors.interface import ImageBatches
from vqi.detectors.learner import Learner, Schedule
from vqi.detectors.settings.cutpaste import CutpasteSettings
from vqi.detectors.settings.simsiam import SimsiamSettings
from vqi.platform.errors import BadInput
from vqi.platform.logs import logger

log = logger(__name__)

Module = TypeVar("Module", bound=nn.Module)


class FineTunedDfm(Dfm, Learner):
    """DFM whose backbone was fine-tuned: heads on the globally pooled feature of the deepest node that is read.

    A fine-tuned method makes its heads with `seeded`, defines views and loss, and thaws the backbone when its turn has
    come. The heads are kept in checkpoints and forgotten in the network artefact.
    """

    settings: SimsiamSettings | CutpasteSettings
    fine_tuned: Tensor

    def __init__(
        self,
        settings: SimsiamSettings | CutpasteSettings,
        backbone: Backbone,
        input_size: tuple[int, int],
        seed: int = 0,
    ) -> None:
        super().__init__(settings, backbone, input_size, seed)
        if next(backbone.parameters(), None) is None:
            raise BadInput(
                f"backbone.name is {backbone.settings.name}, which has no weights to fine-tune; name a network, or "
                "use dfm."
            )
        self.last = deepest_node(backbone)
        self.width = backbone.channels[self.last]
        # Kept in checkpoints: a run that resumes after its last step has begun no epoch.
        self.register_buffer("fine_tuned", torch.tensor(False))

    def seeded(self, make: Callable[[], Module]) -> Module:
        """What `make` makes, its initial weights drawn from the detector's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return make()

    def pooled(self, images: Tensor) -> Tensor:
        """The global average of the deepest node read: float32 [N, 3, H, W] -> float32 [N, width]."""
        return self.backbone(images)[self.last].mean(dim=(2, 3))

    def train(self, mode: bool = True) -> Self:
        """Training mode; for the backbone only where it learns, and for its normalisation only where each batch's
        statistics are asked for."""
        super().train(mode)
        self.backbone.train(mode and next(self.backbone.parameters()).requires_grad)
        if self.settings.normalisation == "normals":
            for part in self.backbone.modules():
                if isinstance(part, _BatchNorm):
                    part.eval()
        return self

    def thaw(self, thawed: bool) -> None:
        """Whether the backbone learns from here on."""
        self.backbone.requires_grad_(thawed)
        if thawed:
            self.fine_tuned.fill_(True)

    def prepare(self, normals: ImageBatches) -> None:
        """Make the network's normalisation that of the normals, its features unchanged (see `adopt_statistics`)."""
        if len(normals) < 2:
            raise BadInput(f"{self.method} needs at least 2 normals to learn from; there are {len(normals)}.")
        adopt_statistics(self.backbone, normals)

    def begin_epoch(self, epoch: int, schedule: Schedule) -> None:
        """The whole network learns from the first step."""
        self.thaw(True)

    def finish(self, normals: ImageBatches) -> None:
        """The backbone is what DFM reads from here on: frozen, and named as what it has become."""
        if self.fine_tuned:
            label = f"{self.backbone.origin.label}, fine-tuned by {self.method} on the normals"
            self.backbone.origin = self.backbone.origin.model_copy(update={"label": label})
        else:
            log.warning(f"{self.method}: the budget ended before the backbone's turn; it is as it came")
        self.thaw(False)
        self.eval()


def deepest_node(backbone: Backbone) -> str:
    """The node read that is computed last: every weight of the cut network lies before it."""
    assert isinstance(backbone.body, GraphModule)
    nodes = list(backbone.body.graph.nodes)
    order = {node: number for number, node in enumerate(nodes)}
    read: dict[str, Any] = next(node for node in nodes if node.op == "output").args[0]
    return max(read, key=lambda name: order[read[name]])


@torch.no_grad()
def adopt_statistics(backbone: Backbone, normals: ImageBatches) -> None:
    """Give every batch normalisation the mean and variance its input has on the normals, and the scale and shift that
    keep its function.

    scale (x - m) / sqrt(v + eps) + shift is the same function with the normals' mean and variance m', v' in place of m,
    v when scale' = scale sqrt((v' + eps) / (v + eps)) and shift' = shift + scale (m' - m) / sqrt(v + eps). In training
    mode a layer uses its batch's statistics, which are about m' and v': learning so begins at the very network the
    weights stand for, also where they come with their normalisation folded away (m = 0, v = 1), which training mode
    would otherwise destroy.
    """
    norms = [
        part
        for part in backbone.body.modules()
        if isinstance(part, _BatchNorm) and part.affine and part.track_running_stats
    ]
    sums = {norm: torch.zeros(2, norm.num_features, dtype=torch.float64, device=norm.weight.device) for norm in norms}
    counts = dict.fromkeys(norms, 0)

    def add_sums(norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        values = inputs[0].flatten(2).double()
        sums[norm] += torch.stack([values.sum(dim=(0, 2)), values.square().sum(dim=(0, 2))])  # type: ignore[index]
        counts[norm] += values.shape[0] * values.shape[2]  # type: ignore[index]

    hooks = [norm.register_forward_hook(add_sums) for norm in norms]
    precision, backbone.precision = backbone.precision, torch.float32
    backbone.eval()
    for batch in normals:
        backbone(batch.to(backbone.mean.device))
    backbone.precision = precision
    for hook in hooks:
        hook.remove()
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, square = sums[norm] / counts[norm]
        variance = (square - mean.square()).clamp(min=0)
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        norm.bias.copy_(norm.bias + scale * (mean - norm.running_mean.double()))
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

"""Frozen feature extractors: any torchvision network cut at any of its nodes, or the weightless filter bank, behind one
call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vqi.detectors.grids import Cells, Grid
from vqi.detectors.settings import BackboneSettings
from vqi.platform.errors import BadInput, closest
from vqi.platform.torchvision_guard import torchvision
from vqi.storage.weights import RANDOM_LABEL, WeightsOrigin, load_weights, without_prefix

FILTERBANK = "filterbank"
NONE = "no backbone"


class Backbone(nn.Module):
    """Feature maps of a network's nodes.

    `settings.layers` are the nodes, resolved; `channels` is how many channels each has, `strides` how many pixels down
    and across lie between its positions (0 where a larger image has no more of them); `origin` says where the weights
    came from.
    `precision` is that of the forward pass on the device it runs on; what comes out is float32 always.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, settings: BackboneSettings, origin: WeightsOrigin) -> None:
        super().__init__()
        self.body, self.settings, self.origin = body, settings, origin
        self.precision = torch.float32
        # The filter bank takes pixels as they are and has no precision to lose.
        self.normalises = settings.name not in (FILTERBANK, NONE)
        self.register_buffer("mean", torch.tensor(settings.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).view(1, 3, 1, 1), persistent=False)
        small, large = self.shapes((64, 64)), self.shapes((128, 128))
        self.channels = {name: size[0] for name, size in small.items()}
        # Of two sizes, so that what padding adds, or its absence takes away, does not count.
        grown = {name: (large[name][1] - size[1], large[name][2] - size[2]) for name, size in small.items()}
        self.strides = {name: tuple(64 / more if more else 0.0 for more in cells) for name, cells in grown.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [N, 3, H, W] in [0, 1] -> for each of `settings.layers`, in that order: float32 [N, C, h, w]."""
        if not self.normalises:
            return self.body(images, self.settings.layers)
        images = (images - self.mean) / self.std
        if not torch.compiler.is_exporting():
            images = images.contiguous(memory_format=torch.channels_last)
        reduced = self.precision != torch.float32
        with torch.autocast(images.device.type, dtype=self.precision if reduced else None, enabled=reduced):
            features = self.body(images)
        return {layer: features[layer].float() for layer in self.settings.layers}

    @torch.inference_mode()
    def shapes(self, input_size: tuple[int, int]) -> dict[str, tuple[int, int, int]]:
        """Channels, height and width of every node for images of `input_size` (height, width), found by running one.

        Raises BadInput where the network cannot take that size or a node gives no feature map.
        """
        try:
            features = self.forward(torch.zeros(1, 3, *input_size, device=self.mean.device))
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise BadInput(
                f"{self.settings.name} cannot take images of {input_size[0]} x {input_size[1]} pixels ({reason})."
            ) from error
        for name, feature in features.items():
            if feature.ndim != 4:
                raise BadInput(
                    f"backbone.layers names {name}, which gives {feature.ndim - 1} dimensions an image, not a feature "
                    "map of three."
                )
        return {name: (feature.shape[1], feature.shape[2], feature.shape[3]) for name, feature in features.items()}

    def grids(self, input_size: tuple[int, int]) -> dict[str, Grid]:
        """Where the positions of every node lie in images of `input_size` (height, width).

        Raises BadInput as `shapes` does.
        """
        grids = {}
        for name, (_, *shape) in self.shapes(input_size).items():
            axes = zip(shape, self.strides[name], input_size, strict=True)
            grids[name] = Grid(*(Cells.of_stride(count, stride, size) for count, stride, size in axes))
        return grids


def create_backbone(
    settings: BackboneSettings, default_layers: Mapping[str, tuple[str, ...]], seed: int = 0
) -> Backbone:
    """The backbone `settings` ask for, with its weights. `default_layers`: the nodes of each network family (`resnet`),
    taken where none are named.

    Raises BadInput for an unknown network or node, and for weights that cannot be had or do not fit.
    """
    backbone = empty_backbone(settings, default_layers, seed)
    if settings.name == FILTERBANK:
        backbone.origin = WeightsOrigin(kind="none", label="no weights (fixed filter bank)")
    elif settings.weights == "random":
        backbone.origin = WeightsOrigin(kind="random", label=RANDOM_LABEL)
    else:
        state, backbone.origin = load_weights(settings.name, settings.weights, settings.sha256)
        _fill(backbone, state)
    return backbone


def no_backbone() -> Backbone:
    """What stands in the backbone's place in a method that reads none: a device and a precision, and no feature map."""
    return Backbone(
        _Nothing(),
        BackboneSettings(name=NONE, weights="none"),
        WeightsOrigin(kind="none", label="trained from scratch"),
    )


class _Nothing(nn.Module):
    """No nodes."""

    def forward(self, images: Tensor, nodes: tuple[str, ...] = ()) -> dict[str, Tensor]:
        return {}


def empty_backbone(
    settings: BackboneSettings, default_layers: Mapping[str, tuple[str, ...]], seed: int = 0
) -> Backbone:
    """The architecture alone, initialised at random from `seed`: for weights that are about to be loaded into it."""
    if settings.name == FILTERBANK:
        from vqi.detectors.filterbank import FilterBank

        bank = FilterBank()
        layers = _known_layers(settings, settings.layers or tuple(bank.nodes), list(bank.nodes))
        body: nn.Module = bank
    else:
        body, layers = _cut(settings, default_layers, seed)
    settings = settings.model_copy(update={"layers": layers})
    backbone = Backbone(body.eval(), settings, WeightsOrigin(kind="random", label=RANDOM_LABEL))
    return backbone.requires_grad_(False).eval()


def _cut(
    settings: BackboneSettings, default_layers: Mapping[str, tuple[str, ...]], seed: int
) -> tuple[nn.Module, tuple[str, ...]]:
    """torchvision's network up to the last of its nodes that are read (what comes after has no weights and costs no
    time), and those nodes."""
    models = torchvision().models
    names = models.list_models(module=models)
    if settings.name not in names:
        raise BadInput(
            f"backbone.name is {settings.name!r}, which is not a torchvision "
            f"network.{closest(settings.name, [*names, FILTERBANK])}"
        )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # googlenet and inception announce a change of their initialisation
        torch.manual_seed(seed)
        network = models.get_model(settings.name, weights=None).eval()
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    nodes = get_graph_node_names(network, suppress_diff_warning=True)[1]
    # A module's name stands for its last node, as torchvision has it: layer2 for layer2.1.relu_1.
    known = list(
        dict.fromkeys(".".join(node.split(".")[:depth]) for node in nodes for depth in range(1, node.count(".") + 2))
    )
    layers = settings.layers or next(
        (layers for family, layers in default_layers.items() if family in settings.name), ()
    )
    if not layers:
        shown = [name for name in known if name.count(".") <= 1][:24]
        raise BadInput(
            f"backbone.layers is empty and {settings.name} has no default; name its nodes, for example of: "
            f"{', '.join(shown)}."
        )
    layers = _known_layers(settings, layers, known)
    return create_feature_extractor(
        network, return_nodes={layer: layer for layer in layers}, suppress_diff_warning=True
    ), layers


def _known_layers(settings: BackboneSettings, layers: tuple[str, ...], known: list[str]) -> tuple[str, ...]:
    for layer in layers:
        if layer not in known:
            hint = closest(layer, known)
            # A deep network has hundreds of nodes: a near one is a hint, the list of all is none.
            hint = hint if len(known) <= 24 else hint.partition(" Known:")[0]
            raise BadInput(f"backbone.layers names {layer!r}, which is not a node of {settings.name}.{hint}")
    if len(set(layers)) != len(layers):
        raise BadInput(f"backbone.layers names a node twice: {', '.join(layers)}.")
    return tuple(layers)


def _fill(backbone: Backbone, stored: Mapping[str, Tensor]) -> None:
    """Load what is `stored` into the network, its names mapped to the network's own.

    Extra entries are ignored (heads, layers after the cut); missing and misshapen ones are BadInput, which lists what
    was found.
    """
    name, origin = backbone.settings.name, backbone.origin.label
    wanted = backbone.body.state_dict()
    state = without_prefix(stored, wanted)
    needed = [key for key in wanted if not key.endswith("num_batches_tracked")]
    missing = [key for key in needed if key not in state]
    if missing:
        prefixes = sorted({".".join(key.split(".")[:2]) for key in state})
        listing = ", ".join(prefixes[:12]) + (f" and {len(prefixes) - 12} more" if len(prefixes) > 12 else "")
        share = "nothing" if len(missing) == len(needed) else f"no {missing[0]}"
        raise BadInput(
            f"The weights {origin} hold {share} of what {name} reads up to {backbone.settings.layers[-1]}; they hold: "
            f"{listing}."
        )
    for key in needed:
        if state[key].shape != wanted[key].shape:
            raise BadInput(
                f"The weights {origin} have {key} of shape {list(state[key].shape)}, {name} needs "
                f"{list(wanted[key].shape)}."
            )
    backbone.body.load_state_dict({key: state.get(key, tensor) for key, tensor in wanted.items()})

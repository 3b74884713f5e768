"""Every method's settings: typed, strict, documented in one place, readable without torch."""

from __future__ import annotations

import dataclasses
import types
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

from vqi.platform.errors import BadInput, closest


def setting(default: Any, meaning: str, *, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A field with its meaning, its closed range [`low`, `high`] or its `choices`."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class PatchcoreSettings:
    """PatchCore, Roth et al., arXiv 2106.08265."""

    coreset_ratio: float = setting(0.01, "share of the training patches kept in the memory bank", low=1e-5, high=1.0)
    max_bank: int = setting(100_000, "absolute cap on the memory bank, patches", low=1, high=10_000_000)
    neighbours: int = setting(9, "bank neighbours of the nearest item that reweight the image score; 1 switches reweighting off", low=1, high=100)
    map_neighbours: int = setting(3, "bank neighbours whose mean distance is a value of the anomaly map; 1 is the paper's", low=1, high=100)
    projection: int = setting(
        128, "dimensions of the random projection that the coreset of longer patches is chosen on (see WORTH_PROJECTING); 0 = none", low=0, high=4096
    )
    smoothing: float = setting(4.0, "sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none", low=0.0, high=64.0)
    max_seconds: float = setting(0.0, "time budget of the coreset, seconds; 0 = none; what is chosen by then is the bank", low=0.0, high=1e9)


@dataclass(frozen=True)
class PadimSettings:
    """PaDiM, Defard et al., arXiv 2011.08785."""

    channels: int = setting(
        100, "channels that all layers' are reduced to (100 for ResNet-18, 550 for WideResNet-50-2 in the paper); 0 = all", low=0, high=4096
    )
    reduction: str = setting(
        "orthogonal",
        "how: a random semi-orthogonal projection of all channels (Kim et al., arXiv 2105.14737), or channels picked at random (the paper)",
        choices=("orthogonal", "pick"),
    )
    resize: str = setting(
        "bilinear", "how coarser layers are brought to the finest one's grid; nearest repeats their values", choices=("bilinear", "nearest")
    )
    regularisation: float = setting(0.01, "added to the diagonal of every covariance", low=1e-9, high=10.0)
    smoothing: float = setting(4.0, "sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none", low=0.0, high=64.0)


@dataclass(frozen=True)
class DfmSettings:
    """Deep-feature modelling, Ahuja et al., arXiv 1909.11786."""

    variance: float = setting(0.99, "share of the variance the principal components keep", low=0.01, high=1.0)
    pool: int = setting(2, "average pooling of the feature map before it is flattened", low=1, high=64)
    localisation: str = setting(
        "error", "the map: error of the image's reconstruction by position, or of each patch in a PCA of patches", choices=("error", "patch")
    )
    smoothing: float = setting(4.0, "sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none", low=0.0, high=64.0)


SETTINGS: dict[str, type] = {"patchcore": PatchcoreSettings, "padim": PadimSettings, "dfm": DfmSettings}


def method_names() -> list[str]:
    """The methods there are, in the order a person should meet them."""
    return list(SETTINGS)


def parse_settings(method: str, values: dict[str, Any]) -> Any:
    """The settings of `method` from plain values, strictly: unknown keys, wrong types and values out of range are BadInput with a hint.

    A whole float is taken for an integer (KFP hands integers over as floats); a string holding a number is not.
    """
    if method not in SETTINGS:
        raise BadInput(f"method.name is {method!r}, which is no method here.{closest(method, method_names())}")
    kind = SETTINGS[method]
    known = {item.name: item for item in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    parsed = {}
    for key, value in values.items():
        if key not in known:
            raise BadInput(f"method.settings.{key} is no setting of {method}.{closest(key, list(known))}")
        parsed[key] = _coerced(f"method.settings.{key}", value, hints[key], known[key].metadata)
    return kind(**parsed)


def _coerced(name: str, value: Any, kind: Any, metadata: Any) -> Any:
    if get_origin(kind) is types.UnionType:
        kind = next(k for k in get_args(kind) if k is not type(None))
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadInput(
            f"{name} is {value!r}; it must be {'a whole number' if kind is int else 'a number' if kind is float else f'a {kind.__name__}'}."
        )
    low, high, choices = metadata.get("low"), metadata.get("high"), metadata.get("choices")
    if kind in (int, float) and not ((low is None or value >= low) and (high is None or value <= high)):
        raise BadInput(f"{name} is {value}; it must lie between {low:g} and {high:g}.")
    if choices and value not in choices:
        raise BadInput(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
    return value


@dataclass(frozen=True)
class BackboneSettings:
    """Which network the features come from.

    `name`: a torchvision model or `filterbank`. `weights`: `imagenet` (torchvision's own download), a file path, an `s3://` address, or `random`
    (seeded; for tests only). `sha256` of the weights file, checked where given. `layers`: node names; empty = the method's own default.
    `mean`, `std`: the normalisation the weights were trained with, of RGB in [0, 1].
    """

    name: str = "resnet18"
    weights: str = "imagenet"
    sha256: str = ""
    layers: tuple[str, ...] = ()
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

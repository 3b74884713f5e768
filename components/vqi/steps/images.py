"""The image each step runs in; `VQI_IMAGES` (a registry and path), `VQI_IMAGE_TAG` and `VQI_IMAGE_DIGESTS` are read
when packages are compiled."""

from __future__ import annotations

import json
import os
import re
from importlib.metadata import version

from vqi.placement import STEP_BY_NAME
from vqi.platform.errors import BadInput

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def image(step: str, variant: str = "") -> str:
    """The container image of a step (`variant` "gaudi": on Habana's PyTorch).

    Tagged by version, since a mutable tag would be served from KFP's cache after it moved; or by digest, where
    VQI_IMAGE_DIGESTS names the file that `docker buildx bake --metadata-file` wrote. Raises BadInput where that file
    cannot be read or is not one.
    """
    name = STEP_BY_NAME[step].image + (f"-{variant}" if variant else "")
    path = f"{os.environ.get('VQI_IMAGES', 'vqi')}/{name}"
    digest = _digest(os.environ["VQI_IMAGE_DIGESTS"], name) if os.environ.get("VQI_IMAGE_DIGESTS") else ""
    return f"{path}@{digest}" if digest else f"{path}:{os.environ.get('VQI_IMAGE_TAG') or version('vqi')}"


def _digest(file: str, name: str) -> str:
    """The digest of an image; "" for one that was not built with the others, such as the Gaudi variants."""
    try:
        with open(file, encoding="utf-8") as stream:
            built = json.load(stream)
        digest = str(built[name]["containerimage.digest"]) if name in built else ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"VQI_IMAGE_DIGESTS names {file}, which is not what `docker buildx bake --metadata-file` writes ({error})."
        ) from error
    if digest and not DIGEST.fullmatch(digest):
        raise BadInput(
            f"VQI_IMAGE_DIGESTS names {file}, where {name} has {digest!r} in place of a digest (sha256:...)."
        )
    return digest

"""A GenICam camera by harvesters, through the GenTL producer that its maker installs.

Not tried on a camera: its tests have a module of the shape of harvesters 1.4.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from vqi.platform.errors import BadInput
from vqi.platform.logs import logger

log = logger(__name__)

PREFIX = "genicam:"
# Where the standard (GenTL 1.6) has producers, files `*.cti`, be found.
PRODUCERS = "GENICAM_GENTL64_PATH"
ANY = "any"
FETCH_SECONDS = 1.0
# OpenCV's name of the pattern by that of GenICam's Pixel Format Naming Convention.
BAYER = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}


def check_genicam() -> None:
    """Raise BadInput where harvesters or a producer is missing."""
    try:
        import harvesters.core  # noqa: F401
    except ImportError as error:
        raise BadInput("The source genicam: needs harvesters; pip install 'vqi[genicam]'.") from error
    if not producers():
        raise BadInput(
            f"The folders of {PRODUCERS} hold 0 GenTL producers (*.cti); install the one of the camera's maker."
        )


def producers() -> list[Path]:
    """The producers in the folders of GENICAM_GENTL64_PATH."""
    folders = [Path(part) for part in os.environ.get(PRODUCERS, "").split(os.pathsep) if part]
    return [file for folder in folders for file in sorted(folder.glob("*.cti"))]


class GenicamReader:
    """Frames of the camera with a serial number (`any`: the only one). A camera that is away gives none.

    A camera may wait for its own trigger for as long as it takes: it is opened again only where it no longer answers.
    """

    def __init__(self, serial: str, stop: threading.Event) -> None:
        self._stop = stop
        self._harvester: Any = None
        self._camera: Any = None
        try:
            from harvesters.core import Harvester

            self._harvester = Harvester()
            for producer in producers():
                self._harvester.add_file(str(producer))
            self._harvester.update()
            self._camera = self._harvester.create(None if serial == ANY else {"serial_number": serial})
            self._camera.start()
        except Exception as error:  # producers raise classes of their own
            log.debug(f"{PREFIX}{serial} cannot be opened ({type(error).__name__}: {error})")
            self.release()

    def read(self) -> np.ndarray | None:
        """The next frame; None where the camera is away, or the reader is to stop."""
        from genicam.gentl import TimeoutException

        while self._camera is not None and not self._stop.is_set():
            try:
                with self._camera.fetch(timeout=FETCH_SECONDS) as buffer:
                    return pixels_of_component(buffer.payload.components[0])
            except TimeoutException:
                if not self._answers():
                    return None
            except BadInput as error:
                log.warning(str(error))
                return None
            except Exception as error:  # whatever a producer raises where a camera is pulled out
                log.debug(f"no frame ({type(error).__name__}: {error})")
                return None
        return None

    def release(self) -> None:
        camera, harvester, self._camera, self._harvester = self._camera, self._harvester, None, None
        for end in ("stop", "destroy"):
            with suppress(Exception):
                getattr(camera, end)()
        with suppress(Exception):
            harvester.reset()

    def _answers(self) -> bool:
        try:
            return int(self._camera.remote_device.node_map.Width.value) > 0
        except Exception:
            return False


def pixels_of_component(component: Any) -> np.ndarray:
    """A component of a buffer as an array of its own: uint8 or uint16, [H, W] for grey, [H, W, 3] for RGB.

    More than 8 bits stay as the camera gives them: they score what a file with the same values scores. Raises BadInput
    for a pixel format that is neither grey, RGB, BGR nor Bayer.
    """
    form, height, width = str(component.data_format), int(component.height), int(component.width)
    channels = 3 if form.startswith(("RGB", "BGR")) else 1
    # A line may be padded.
    lines = np.asarray(component.data).reshape(height, -1)[:, : width * channels]
    if lines.dtype not in (np.uint8, np.uint16) or lines.shape[1] < width * channels:
        raise BadInput(f"The pixel format {form} is not read; set the camera to Mono8, RGB8, BGR8 or BayerRG8.")
    if form.startswith("Mono"):
        return lines.copy()
    if channels == 3:
        pixels = lines.reshape(height, width, 3)
        return np.ascontiguousarray(pixels[..., ::-1]) if form.startswith("BGR") else pixels.copy()
    if form.startswith("Bayer") and form[5:7] in BAYER:
        import cv2

        code = getattr(cv2, f"COLOR_Bayer{BAYER[form[5:7]]}2RGB")
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(lines), code))
    raise BadInput(f"The pixel format {form} is not read; set the camera to Mono8, RGB8, BGR8 or BayerRG8.")

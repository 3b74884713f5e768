"""Files as industrial cameras and their software write them: TIFF of many kinds, and colour profiles."""

from __future__ import annotations

import io
import struct

import numpy as np
import tifffile
from PIL import Image, ImageCms


def tiff(values: np.ndarray, **options: object) -> bytes:
    """A TIFF by tifffile; `bigtiff` and `byteorder` are the file's, the others the page's."""
    out = io.BytesIO()
    file_options = {name: options.pop(name) for name in ("bigtiff", "byteorder") if name in options}
    with tifffile.TiffWriter(out, **file_options) as writer:  # type: ignore[arg-type]
        writer.write(values, **{"metadata": None, **options})  # type: ignore[arg-type]
    return out.getvalue()


def red_for_blue() -> bytes:
    """A colour profile by which the first channel is what sRGB has in its third: a viewer shows red as blue."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(profile[132 + 12 * n : 136 + 12 * n]): 132 + 12 * n for n in range(profile[131])}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def linear_grey() -> bytes:
    """A profile of grey whose values are amounts of light: a viewer shows half the light as 188."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    name = b"desc\0\0\0\0" + struct.pack(">I", 7) + b"linear\0" + bytes(78)
    name += bytes(-len(name) % 4)
    tags, at, body, table = (b"desc", name), 128 + 4 + 3 * 12, b"", b""
    for kind, content in (tags, (b"wtpt", white), (b"kTRC", curve)):
        table += kind + struct.pack(">II", at + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"none", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += white[8:] + bytes(48)
    return head + struct.pack(">I", 3) + table + body


def image_file(values: np.ndarray, form: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(values) if mode is None else Image.fromarray(values).convert(mode)
    image.save(out, form, **options)
    return out.getvalue()

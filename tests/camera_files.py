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
    return _profile(b"linear", b"mntr", b"GRAY", b"XYZ ", b"kTRC", b"curv\0\0\0\0" + struct.pack(">I", 0))


def red_cyan() -> bytes:
    """A profile of a press (CMYK) whose cyan ink is red and whose black ink is green; both at once, and the others, are
    black. Between the inks colours lie on straight lines in CIELAB (ICC.1:2001-04, lut16Type)."""
    paper, red, green, black = (100.0, 0.0, 0.0), (54.29, 80.81, 69.89), (87.82, -79.29, 80.99), (0.0, 0.0, 0.0)
    inks = {(0, 0, 0, 0): paper, (1, 0, 0, 0): red, (0, 0, 0, 1): green}
    corners = [inks.get((c, m, y, k), black) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    values = [round(v) for L, a, b in corners for v in (L * 652.8, (a + 128) * 256, (b + 128) * 256)]
    identity = [65536 if row == column else 0 for row in range(3) for column in range(3)]
    lut = b"mft2\0\0\0\0" + struct.pack(">4B9i2H", 4, 3, 2, 0, *identity, 2, 2)
    lut += struct.pack(">8H", *[0, 65535] * 4) + struct.pack(">48H", *values) + struct.pack(">6H", *[0, 65535] * 3)
    return _profile(b"red cyan", b"prtr", b"CMYK", b"Lab ", b"A2B0", lut)


def _profile(name: bytes, kind: bytes, space: bytes, connection: bytes, tag: bytes, content: bytes) -> bytes:
    """An ICC profile of version 2 with one tag beside its description and its white."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + bytes(79)
    described += bytes(-len(described) % 4)
    at, body, table = 128 + 4 + 3 * 12, b"", b""
    for key, part in ((b"desc", described), (b"wtpt", white), (tag, content)):
        table += key + struct.pack(">II", at + len(body), len(part))
        body += part + bytes(-len(part) % 4)
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"none", 0x02100000, kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += white[8:] + bytes(48)
    return head + struct.pack(">I", 3) + table + body


def image_file(values: np.ndarray, form: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(values) if mode is None else Image.fromarray(values).convert(mode)
    image.save(out, form, **options)
    return out.getvalue()

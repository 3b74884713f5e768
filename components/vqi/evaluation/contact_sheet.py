"""A contact sheet: pictures in rows and columns under headings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from vqi.evaluation.pictures import CASING, DETECTED, TRUTH, fitting

SIDE, MARGIN, BAND, FRAME = 224, 8, 24, 4
FRAMES = {"good": TRUTH, "defect": DETECTED}


def contact_sheet(
    title: str,
    columns: Mapping[str, np.ndarray],
    rows: Sequence[str],
    labels: Sequence[Literal["good", "defect"]] | None = None,
) -> np.ndarray:
    """Columns by their heading, each uint8 [n, h, w, 3] (sizes may differ from column to column), a caption a row ->
    uint8 [H, W, 3].

    Pictures are shrunk to at most SIDE pixels a side, never enlarged. With `labels` each row's first picture is framed,
    by colour and by a heading.
    """
    from PIL import Image, ImageDraw, ImageFont

    font, large = ImageFont.load_default(13), ImageFont.load_default(16)
    scales = {name: min(1.0, SIDE / max(pictures.shape[1:3])) for name, pictures in columns.items()}
    sizes = {
        name: (round(columns[name].shape[2] * scale), round(columns[name].shape[1] * scale))
        for name, scale in scales.items()
    }
    widths = {name: max(width, 120) for name, (width, _) in sizes.items()}
    height = max(height for _, height in sizes.values())
    whole = max(sum(widths.values()) + MARGIN * (len(columns) + 1), 480)
    sheet = Image.new("RGB", (whole, 2 * BAND + MARGIN + len(rows) * (height + BAND + MARGIN)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 4), fitting(title, large, whole - 2 * MARGIN), fill=CASING, font=large)
    left = MARGIN
    for number, (name, pictures) in enumerate(columns.items()):
        draw.text((left, BAND + 6), fitting(name, large, widths[name]), fill=CASING, font=large)
        for row, picture in enumerate(pictures):
            top = 2 * BAND + MARGIN + row * (height + BAND + MARGIN)
            shown = Image.fromarray(picture).resize(sizes[name], Image.Resampling.BOX)
            sheet.paste(shown, (left, top + BAND))
            if number == 0:
                label = labels[row] if labels else None
                caption = f"{label}: {rows[row]}" if label else rows[row]
                draw.text((left, top + 4), fitting(caption, font, whole - 2 * MARGIN), fill=CASING, font=font)
                if label:
                    box = (left - 1, top + BAND - 1, left + shown.width, top + BAND + shown.height)
                    draw.rectangle(box, outline=FRAMES[label], width=FRAME)
        left += widths[name] + MARGIN
    return np.asarray(sheet)

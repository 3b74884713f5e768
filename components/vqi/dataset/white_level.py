"""The value of white in photographs with more than 8 bits a channel: one for a whole set, from the values its normals
reach; and the range of floating-point values, which is asked for.

A camera of 10, 12 or 14 bits is often saved in files of 16 without scaling: taken as 16 bits its photographs are nearly
black.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from vqi.dataset.decoding import Decoding
from vqi.dataset.images import wide_values
from vqi.dataset.scaling import finite_range, range_question
from vqi.platform.errors import BadInput

# The ranges of 8, 10, 12, 14 and 16 bits.
WHITE_LEVELS = (255, 1023, 4095, 16383, 65535)
# Defective pixels of a sensor may hold any value. They are few.
_MOST_HOT_PIXELS = 1e-5


class FloatRange:
    """What the photographs of floating-point values of a set hold, added one by one."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._low, self._high = np.inf, -np.inf

    def add(self, data: bytes | memoryview, name: str, decoding: Decoding) -> None:
        """Such a file, read by size and page of `decoding`. Raises BadInput where it cannot be decoded."""
        values = wide_values(data, name, decoding)
        low, high = finite_range(values[..., : 1 if values.shape[2] < 3 else 3])
        self._paths.append(name)
        self._low, self._high = min(self._low, low), max(self._high, high)

    def ask(self) -> None:
        """Raises BadInput with the question for the range, where there are such photographs."""
        if self._paths:
            hold = "photograph holds" if len(self._paths) == 1 else "photographs hold"
            what = f"{len(self._paths)} {hold}"
            raise BadInput(range_question(what, self._low, self._high, f" (the first is {self._paths[0]})"))

    def note(self, stated: tuple[float, float] | None) -> str:
        """The sentence on a `stated` range; "" where the set lacks such photographs."""
        if not self._paths or stated is None:
            return ""
        black, white = stated
        beyond = "" if black <= self._low and self._high <= white else ", and what lies outside is cut off"
        return (
            f"Black is {black:.6g} and white {white:.6g} in photographs of floating-point values, as image.range says; "
            f"they hold {self._low:.6g} to {self._high:.6g}{beyond}."
        )


class WhiteLevel:
    """What the photographs of a set reach, added one by one."""

    def __init__(self) -> None:
        self._photographs = self._pixels = self._highest = 0
        self._above = np.zeros(len(WHITE_LEVELS), np.int64)
        self._stated: Counter[int | None] = Counter()

    def add(self, data: bytes | memoryview, name: str, stated: int | None, decoding: Decoding) -> None:
        """A file with more than 8 bits a channel, read by size and page of `decoding`; `stated` is the white that its
        header names. Raises BadInput where it cannot be decoded."""
        values = wide_values(data, name, decoding)
        colours = values if values.shape[2] in (1, 3) else values[..., :-1]
        brightest = colours.max(axis=2)
        highest = int(brightest.max(initial=0))
        self._photographs += 1
        self._pixels += brightest.size
        self._highest = max(self._highest, highest)
        self._stated[stated] += 1
        for number, level in enumerate(WHITE_LEVELS):
            if highest > level:
                self._above[number] += np.count_nonzero(brightest > level)

    def decide(self) -> tuple[int, str]:
        """The white level and the sentence that states it ("" where no photograph has more than 8 bits)."""
        if not self._photographs:
            return WHITE_LEVELS[-1], ""
        stated, files = self._stated.most_common(1)[0]
        if stated and files == self._photographs and self._highest <= stated:
            return stated, f"White is {stated}, as the headers of the photographs with more than 8 bits a channel say."
        above = self._above / max(self._pixels, 1)
        number = next(
            (number for number, share in enumerate(above) if share <= _MOST_HOT_PIXELS), len(WHITE_LEVELS) - 1
        )
        level = WHITE_LEVELS[number]
        if level == WHITE_LEVELS[-1]:
            beyond = f", and what lies above (up to {self._highest}) is cut off" if self._highest > level else ""
            return level, f"White is 65535 in photographs with more than 8 bits a channel{beyond}."
        hot = (
            f" but for {self._above[number]} hot pixel{'' if self._above[number] == 1 else 's'}"
            if self._above[number]
            else ""
        )
        return level, (
            f"The values of the normals with more than 8 bits a channel end at {min(self._highest, level)}{hot}: "
            f"{level.bit_length()} bits? White is "
            f"taken as {level}; image.white_level says otherwise."
        )

"""Text from outside (file names, servers' answers) on its way to a terminal or a log."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""`text` with every control, formatting and undecodable character escaped (`\x1b`): file names must not drive a
    terminal or a log."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii", "backslashreplace")
        for c in text
    )

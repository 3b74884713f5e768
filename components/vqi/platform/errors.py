"""The errors a user meets: one sentence that says what is wrong, where, and what to do.

Exit codes are the same for every command and every step: 0 fine, 1 the run failed, 2 bad input, 3 a gate said no.
"""

from __future__ import annotations


class VqiError(Exception):
    """Base of every error meant for a person; its text is one sentence and is shown without a traceback."""

    exit_code = 1


class RunFailed(VqiError):
    """The work was asked for rightly and could not be done (a server away, a disk full)."""

    exit_code = 1


class BadInput(VqiError):
    """What was given cannot be used: data, configuration, weights, arguments."""

    exit_code = 2


class GateRefused(VqiError):
    """A gate said no: the parity of an export, the quality of a candidate."""

    exit_code = 3


def closest(name: str, choices: list[str]) -> str:
    """A hint for a mistyped name: " Did you mean 'x'?" where one of `choices` is near, else the list of them."""
    import difflib

    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(sorted(choices))}." if choices else ""

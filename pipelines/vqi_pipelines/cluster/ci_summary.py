"""What CI leaves for people: a Markdown table of what was trained, why, and how it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vqi.platform.errors import BadInput
from vqi.platform.printing import printable
from vqi_pipelines.cluster.following import RunResult

SHOWN = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}


@dataclass
class Trained:
    """One category of a CI run; `result` is None where it was refused before it began, or only listed
    (`--dry-run`)."""

    category: str
    why: str
    result: RunResult | None = None
    error: str = ""
    exit_code: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


def requirements(texts: list[str]) -> dict[str, float]:
    """`image_auroc=0.95` as a number by name. Raises BadInput for anything else."""
    wanted = {}
    for text in texts:
        match = re.fullmatch(r"\s*(\w+)\s*=\s*(\d+(?:\.\d+)?)\s*", text)
        if not match:
            raise BadInput(f"--require {text!r} must be written metric=least, such as --require image_auroc=0.95.")
        wanted[match[1]] = float(match[2])
    return wanted


def shortfall(metrics: dict[str, float], wanted: dict[str, float]) -> str:
    """The sentence of a candidate that is not good enough, "" for one that is. A metric that is not known is not good
    enough."""
    missed = [
        f"{name} is {metrics[name]:.4f}, below {least:g}"
        if name in metrics
        else f"{name} is not known (asked for: {least:g})"
        for name, least in wanted.items()
        if metrics.get(name, float("-inf")) < least
    ]
    return "; ".join(missed)


def exit_code(trained: list[Trained]) -> int:
    """0 where all is fine, 2 or 3 where everything that went wrong was that, else 1."""
    codes = {each.exit_code for each in trained} - {0}
    return 0 if not codes else codes.pop() if len(codes) == 1 else 1


def markdown(trained: list[Trained], unchanged: list[str]) -> str:
    """The summary as GitHub, GitLab and others render it."""
    lines = ["## Visual quality inspection", ""]
    if trained:
        lines += [f"| category | why | result | {' | '.join(SHOWN.values())} | run |", "|---" * (4 + len(SHOWN)) + "|"]
    for each in trained:
        result = {0: "trained" if each.result else "due", 2: "bad input", 3: "refused by a gate"}.get(
            each.exit_code, "failed"
        )
        figures = [f"{each.metrics[name]:.4f}" if name in each.metrics else "" for name in SHOWN]
        run = ""
        if each.result:
            run = f"[{_cell(each.result.name)}]({each.result.link})" if each.result.link else _cell(each.result.name)
        lines.append(f"| {_cell(each.category)} | {_cell(each.why)} | {result} | {' | '.join(figures)} | {run} |")
    for each in trained:
        if each.error:
            lines += ["", f"**{_cell(each.category)}**: {_cell(each.error)}"]
    if unchanged:
        lines += ["", f"Unchanged: {', '.join(_cell(name) for name in unchanged)}."]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"([|<>\[\]`*_])", r"\\\1", printable(text))

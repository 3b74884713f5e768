"""The one logger of the project, `vqi`: what a person or a cluster's log collector reads of a run, on standard error.

A message is printed as it is, so that a terminal and a pod's log stay readable. The variable VQI_LOG changes that, here
and in every process that is started from here: some of WORDS, with commas between them; `vqi -q` and `vqi -v` set it.
Results go to standard output and never through here. A program that uses the package may replace the logger's handler
with its own.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vqi.platform.printing import printable

VARIABLE = "VQI_LOG"
JSON, QUIET, DEBUG = "json", "quiet", "debug"
WORDS = {
    JSON: "A line is a JSON object: time, level, logger, step, message, and exc_info where there is a traceback. A "
    "local run prints its steps' lines so itself; run.log keeps them as text.",
    QUIET: "Warnings and errors alone, as with `vqi -q`.",
    DEBUG: "Versions, devices, files and timings too, with their time and logger, as with `vqi -v`.",
}
# The step that this process, or the one that started it, runs; in JSON lines.
STEP = "VQI_STEP"
ROOT = "vqi"
# Whose versions a result or a failure may depend on.
LIBRARIES = ("numpy", "PIL", "torch", "torchvision", "sklearn", "scipy", "onnxruntime", "openvino", "mlflow", "kfp")


def logger(module: str) -> logging.Logger:
    """The logger of a module by its `__name__`; those of the command line stand below `vqi` too."""
    name = module.replace("vqi_pipelines", f"{ROOT}.pipelines", 1) if module.startswith("vqi_pipelines") else module
    return logging.getLogger(name if name.split(".")[0] == ROOT else f"{ROOT}.{name}")


def configure(words: str | None = None) -> None:
    """Let the logger `vqi` print as `words` say, those of VQI_LOG without any; words that mean nothing are named."""
    text = os.environ.get(VARIABLE, "") if words is None else words
    chosen = _words(text)
    handler = _StandardError()
    handler.setFormatter(_JsonLines() if JSON in chosen else _Text())
    root = logging.getLogger(ROOT)
    root.handlers = [handler]
    # A library that configures the root logger would print every line once more.
    root.propagate = False
    root.setLevel(logging.DEBUG if DEBUG in chosen else logging.WARNING if QUIET in chosen else logging.INFO)
    if unknown := chosen - set(WORDS):
        root.warning(f"{VARIABLE} holds {', '.join(sorted(unknown))!r}; it takes json, quiet and debug, with commas.")


def set_verbosity(word: str) -> None:
    """Print as `word` (QUIET or DEBUG) says, here and in the processes that are started from here."""
    words = _words(os.environ.get(VARIABLE, "")) - {QUIET, DEBUG} | {word}
    os.environ[VARIABLE] = ",".join(sorted(words))
    configure()


def is_quiet() -> bool:
    """Whether warnings and errors alone are printed."""
    return not logging.getLogger(ROOT).isEnabledFor(logging.INFO)


def variables_of_children() -> dict[str, str]:
    """What the environment of a process says whose lines are read here, and printed by this one: text in any case."""
    return {VARIABLE: ",".join(sorted(_words(os.environ.get(VARIABLE, "")) - {JSON}))}


@contextmanager
def of_step(name: str) -> Iterator[None]:
    """Let the lines of this process, and of those that it starts, name the step."""
    before = os.environ.get(STEP)
    os.environ[STEP] = name
    try:
        yield
    finally:
        os.environ.pop(STEP) if before is None else os.environ.update({STEP: before})


def versions() -> str:
    """Python, the machine, and the libraries that this process has loaded, with their versions."""
    import platform

    loaded = [
        f"{name} {version}"
        for name in LIBRARIES
        if (version := getattr(sys.modules.get(name), "__version__", "")) and isinstance(version, str)
    ]
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return ", ".join([machine, *loaded])


def _words(text: str) -> set[str]:
    return {word for part in text.split(",") if (word := part.strip().lower())}


class _StandardError(logging.Handler):
    """Writes to what `sys.stderr` is at that time."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        try:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # full, closed or none: a log is not a reason to end a run
            pass


class _Text(logging.Formatter):
    """The message as it is, or the traceback of a record without one; details with their time and logger."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [record.getMessage(), self.formatException(record.exc_info) if record.exc_info else ""]
        text = _escaped("\n".join(part for part in parts if part))
        if record.levelno >= logging.INFO:
            return text
        return f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.name}: {text}"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        import json
        from datetime import UTC, datetime

        error = record.exc_info[1] if record.exc_info else None
        value = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "step": getattr(record, "step", "") or os.environ.get(STEP, ""),
            "message": _escaped(record.getMessage().strip() or f"{type(error).__name__}: {error}"),
        }
        if record.exc_info:
            value["exc_info"] = _escaped(self.formatException(record.exc_info))
        return json.dumps(value, ensure_ascii=False)


def _escaped(text: str) -> str:
    """Lines stay lines; whatever else would drive a terminal does not."""
    return "\n".join(printable(line) for line in text.split("\n"))


configure()

"""A decision as every sink gets it: one JSON object."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from vqi.deployment.prediction_record import BoxRecord
from vqi.deployment.predictor import Prediction, Unreadable
from vqi.deployment.watching.sources import Photograph
from vqi.evaluation.predictions import BundleDecision
from vqi.platform.records import FileRecord, Items


class DecisionRecord(FileRecord):
    """What was decided on one photograph. `id` tells a decision from every other: a receiver that has seen it drops
    the second. `time`: UTC, when the photograph was taken in hand. `trigger`: the line that asked for the frame.
    `error`: why an unreadable one could not be decided on; `implausible`: why it is not judged;
    `unaligned`: why it was decided on as it lies, where the bundle aligns."""

    format_name: ClassVar[str] = "vqi-decision/1"
    remedy: ClassVar[str] = "see what wrote it"
    left_out: ClassVar[frozenset[str]] = frozenset(
        {"trigger", "score", "width", "height", "boxes", "seconds", "implausible", "unaligned", "error"}
    )

    id: str
    time: str
    source: str
    image: str
    trigger: str | None = None
    bundle: str
    version: str
    decision: BundleDecision | Literal["unreadable"]
    score: float | None = None
    threshold: float
    width: int | None = None
    height: int | None = None
    boxes: Items[BoxRecord] | None = None
    seconds: float | None = None
    implausible: str | None = None
    unaligned: str | None = None
    error: str | None = None

    def line(self) -> str:
        """One line of ASCII, without its end."""
        return json.dumps(self.values(), allow_nan=False)


def decision_of(
    photograph: Photograph, result: Prediction | Unreadable, source: str, bundle: str, version: str, threshold: float
) -> DecisionRecord:
    """The decision that `result` is, with a new id."""
    known: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "time": datetime.fromtimestamp(photograph.at, UTC).isoformat(timespec="milliseconds"),
        "source": _readable(source),
        "image": _readable(photograph.name),
        "trigger": _readable(photograph.trigger) or None,
        "bundle": bundle,
        "version": version,
        "threshold": threshold,
    }
    if isinstance(result, Unreadable):
        return DecisionRecord(**known, decision="unreadable", error=_readable(result.reason))
    height, width = result.map.shape
    return DecisionRecord(
        **known,
        decision=result.decision,
        score=result.score,
        width=width,
        height=height,
        boxes=tuple(BoxRecord(x1=x1, y1=y1, x2=x2, y2=y2, score=score) for x1, y1, x2, y2, score in result.boxes),
        seconds=round(result.seconds, 6),
        implausible=_readable(result.implausible) or None,
        unaligned=_readable(result.unaligned) or None,
    )


def _readable(text: str) -> str:
    """A file name may hold bytes that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()

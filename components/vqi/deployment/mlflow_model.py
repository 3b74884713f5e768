"""A bundle as MLflow runs it: photographs as bytes in, one row each out. The file `mlflow_bundle.py` of a bundle hands
this class to MLflow; nothing of it is pickled."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas

from vqi.deployment.prediction_record import BoxRecord
from vqi.deployment.predictor import Prediction, Predictor, Unreadable
from vqi.platform.errors import BadInput

IMAGE = "image"
COLUMNS = ("score", "decision", "threshold", "boxes", "reason")


class BundleModel(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    """The bundle in `folder`, opened when MLflow loads it."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._predictor: Predictor | None = None
        # MLflow's server may call from several threads.
        self._lock = threading.Lock()

    def load_context(self, context: Any) -> None:
        """Open the bundle as `model_config` says (vqi.deployment.exports.mlflow). Raises what Predictor raises."""
        self._predictor = Predictor(self._folder, **(context.model_config or {}))

    def predict(
        self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        """A row for each photograph of the column `image` (the bytes of a file): score, decision, threshold, boxes,
        and the reason where it is not decided."""
        if self._predictor is None:
            raise BadInput("The bundle is not loaded; open it with mlflow.pyfunc.load_model.")
        limit = self._predictor.sidecar.thresholds.image
        with self._lock:
            rows = [_row(result, limit) for result in self._predictor.predict(_photographs(model_input))]
        table = pandas.DataFrame(rows, columns=list(COLUMNS))
        # A number that is missing would be NaN, which MLflow's server writes into its JSON as it is.
        scores = [row["score"] for row in rows]
        return table.assign(score=pandas.Series(scores, dtype=object)) if None in scores else table


def _photographs(model_input: pandas.DataFrame) -> Iterable[tuple[str, bytes]]:
    if IMAGE not in model_input:
        raise BadInput(f"The input must be a table with the column {IMAGE!r}: the bytes of one photograph a row.")
    for number, content in enumerate(model_input[IMAGE], 1):
        yield f"image {number}", bytes(content)


def _row(result: Prediction | Unreadable, limit: float) -> dict[str, Any]:
    if isinstance(result, Unreadable):
        return {"score": None, "decision": "unreadable", "threshold": limit, "boxes": [], "reason": result.reason}
    return {
        "score": result.score,
        "decision": result.decision,
        "threshold": limit,
        "boxes": [_box(*box) for box in result.boxes],
        "reason": result.implausible or result.unaligned,
    }


def _box(x1: int, y1: int, x2: int, y2: int, score: float) -> dict[str, Any]:
    return BoxRecord(x1=x1, y1=y1, x2=x2, y2=y2, score=score).values()

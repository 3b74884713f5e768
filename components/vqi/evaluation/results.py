"""The content of `results.json`: every number of an evaluation, and a sentence for every number that could not be
had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vqi.evaluation.aupro import PixelScores
from vqi.evaluation.charts import histogram
from vqi.evaluation.metrics import Confusion, Ranking, roc_curve
from vqi.evaluation.predictions import Prediction
from vqi.evaluation.thresholds import Calibration, Threshold, promised_rates, standing_out
from vqi.evaluation.verdict import choice, verdict
from vqi.platform.printing import printable

FORMAT = "vqi-results/1"
RESULTS, PREDICTIONS, PICTURES, EXAMPLES = "results.json", "predictions.csv", "pictures", "examples.json"

ROWS = (
    "image_auroc",
    "image_aupr",
    "image_f1_max",
    "balanced_accuracy",
    "false_reject_rate",
    "recall",
    "pixel_auroc",
    "pixel_f1_max",
    "aupro",
    "aupro_05",
)


def compute_metrics(
    predictions: Sequence[Prediction], pixels: PixelScores, threshold: Threshold, lost_regions: int = 0
) -> dict[str, Any]:
    """The measured part of results.json: `metrics`, `per_defect`, `mean_scores`, `counts`, `roc`, `histogram` and
    `notes`.

    `lost_regions` counts the regions of the masks that no pixel was left of. Images labelled unknown are counted and
    drawn in the histogram; no metric sees them.
    """
    good, defective = _scores(predictions, "good"), _scores(predictions, "defect")
    types = sorted({row.defect for row in predictions if row.label == "defect"})
    return {
        "metrics": {**_image_metrics(good, defective, threshold.image), **_pixel_metrics(pixels, threshold.pixel)},
        "per_defect": {kind: _of_one_type(kind, predictions, good, pixels, threshold) for kind in types},
        "mean_scores": {
            kind: float(np.mean(_scores(predictions, label, kind)))
            for label, kind in sorted({(r.label, r.defect) for r in predictions})
        },
        "counts": {
            "test_images": len(predictions),
            "good": int(good.size),
            "defect": int(defective.size),
            "unknown": len(predictions) - int(good.size + defective.size),
            "regions": pixels.regions,
            "regions_not_measurable": lost_regions,
        },
        "notes": _missing(good, defective, pixels),
        "roc": roc_curve(defective, good),
        "histogram": histogram([row.label for row in predictions], [row.score for row in predictions]),
    }


def trade_off(predictions: Sequence[Prediction], calibration: Calibration) -> list[dict[str, Any]]:
    """What other false-reject rates would do on the test split: a row a rate that the calibration can promise, its
    threshold and the decisions there.

    The thresholds still come from normals alone; the counts are for a person to weigh, not for choosing the best row
    and calling it measured.
    """
    good, defective = _scores(predictions, "good"), _scores(predictions, "defect")
    return [choice(calibration, rate, good, defective) for rate in promised_rates(len(calibration.scores))]


def judged(predictions: Sequence[Prediction], calibration: Calibration, threshold: Threshold) -> dict[str, Any]:
    """The `verdict` of results.json."""
    return verdict(calibration, threshold, _scores(predictions, "good"), _scores(predictions, "defect"))


def classified(predictions: Sequence[Prediction]) -> tuple[dict[str, float | None], str]:
    """What a classifier decides by itself, defect (the positive class) where its score is above 0: metrics, and a
    sentence."""
    good, defective = _scores(predictions, "good"), _scores(predictions, "defect")
    confusion = Confusion.at(0.0, defective, good)
    metrics = {"classifier_accuracy": confusion.accuracy, "classifier_balanced_accuracy": confusion.balanced_accuracy}
    return metrics, (
        f"By its own boundary (score 0) the classifier finds {confusion.true_positive} of {defective.size} defects "
        "and rejects "
        f"{confusion.false_positive} of {good.size} good parts (classifier_accuracy, classifier_balanced_accuracy). "
        "All other decisions here are "
        "made at the threshold in use."
    )


def outlier_notes(calibration: Calibration) -> list[str]:
    """A sentence about the normals that stand far apart from the others, empty where none does."""
    outliers = standing_out(calibration)
    if not outliers:
        return []
    one = len(outliers) == 1
    named = ", ".join(f"{path} ({score:.4g})" for path, score in outliers[:5]) + (
        f" and {len(outliers) - 5} more" if len(outliers) > 5 else ""
    )
    return [
        f"{len(outliers)} good photograph{'' if one else 's'} used for the threshold score{'s' if one else ''} far "
        f"above all others: {named}. Look at "
        f"{'it' if one else 'them'}: a defect or another camera set-up among the normals raises the threshold, and "
        "defects pass below it."
    ]


def _scores(predictions: Sequence[Prediction], label: str, defect: str | None = None) -> np.ndarray:
    """Image scores, float64 [n], of one label, and of one defect type where it is named."""
    return np.array(
        [row.score for row in predictions if row.label == label and defect in (None, row.defect)], dtype=np.float64
    )


def _image_metrics(good: np.ndarray, defective: np.ndarray, threshold: float) -> dict[str, Any]:
    ranking, confusion = Ranking(defective, good), Confusion.at(threshold, defective, good)
    return {
        "image_auroc": ranking.auroc,
        "image_aupr": ranking.average_precision,
        "image_f1_max": ranking.f1_max,
        "accuracy": confusion.accuracy,
        "balanced_accuracy": confusion.balanced_accuracy,
        "recall": confusion.recall,
        "precision": confusion.precision,
        "false_reject_rate": confusion.false_reject_rate,
        "f1": confusion.dice,
        "kappa": confusion.kappa,
        "confusion": asdict(confusion),
    }


def _pixel_metrics(pixels: PixelScores, threshold: float) -> dict[str, float | None]:
    confusion = pixels.confusion(threshold) if pixels.regions else Confusion(0, 0, 0, 0)
    return {
        **pixels.ranking_metrics(),
        "pixel_accuracy": confusion.accuracy,
        "pixel_iou": confusion.iou,
        "pixel_miou": confusion.mean_iou,
        "pixel_dice": confusion.dice,
        "pixel_kappa": confusion.kappa,
    }


def _of_one_type(
    kind: str, predictions: Sequence[Prediction], good: np.ndarray, pixels: PixelScores, threshold: Threshold
) -> dict[str, Any]:
    """One defect type: image AUROC and recall of its images against all good ones, pixel metrics of its pixels against
    all good pixels."""
    scores = _scores(predictions, "defect", kind)
    of_pixels = pixels.ranking_metrics(kind)
    return {
        "images": int(scores.size),
        "image_auroc": Ranking(scores, good).auroc,
        "recall": Confusion.at(threshold.image, scores, good).recall,
        "pixel_auroc": of_pixels["pixel_auroc"],
        "aupro": of_pixels["aupro"],
        "pixel_recall": pixels.confusion(threshold.pixel, kind).recall,
    }


def _missing(good: np.ndarray, defective: np.ndarray, pixels: PixelScores) -> list[str]:
    """Why metrics are null."""
    notes = []
    ranked = "image_auroc, image_aupr, image_f1_max and balanced_accuracy are left out"
    if good.size and not defective.size:
        notes.append(
            f"{ranked}: the test split has no defective image, so only the rejection of good parts could be measured."
        )
    elif defective.size and not good.size:
        notes.append(f"{ranked}: the test split has no good image, so only the finding of defects could be measured.")
    elif not good.size:
        notes.append(f"{ranked}: no test image is labelled good or defect.")
    if not pixels.regions:
        reason = (
            "no defective test image has a mask the network could see"
            if defective.size
            else "the test split has no defective image"
        )
        notes.append(
            "Pixel metrics (pixel_auroc, pixel_aupr, pixel_f1_max, aupro, aupro_05, pixel_iou, pixel_dice ...) are "
            f"left out: {reason}."
        )
    return notes


def table(results: dict[str, Any]) -> str:
    """The results for a terminal: the main metrics, what the threshold did, and a line a defect type."""
    metrics, threshold, confusion = results["metrics"], results["threshold"], results["metrics"]["confusion"]
    lines = [
        f"{results['name']} · {results['method']} · {results['backbone']['name']} · weights: "
        f"{results['weights']['label']}"
    ]
    lines += [f"  {printable(sentence)[:600]}" for sentence in results["verdict"]["text"]]
    lines += [f"  {name:<18}{_cell(metrics[name])}" for name in ROWS]
    detected, missed, rejected, passed = (
        confusion[key] for key in ("true_positive", "false_negative", "false_positive", "true_negative")
    )
    lines.append(
        f"  threshold {threshold['image']:.6g}: {detected} of {detected + missed} defects found, {rejected} of "
        f"{rejected + passed} good parts rejected"
    )
    if results["per_defect"]:
        kinds = {kind: printable(kind)[:32] for kind in results["per_defect"]}
        width = max(map(len, kinds.values()))
        columns = ("images", "image_auroc", "recall", "pixel_auroc", "aupro")
        lines.append("  " + "defect".ljust(max(width, 6)) + "".join(name.rjust(13) for name in columns))
        for kind, row in results["per_defect"].items():
            lines.append(
                "  " + kinds[kind].ljust(max(width, 6)) + "".join(_cell(row[name]).rjust(13) for name in columns)
            )
    lines += [f"  note: {printable(note)[:400]}" for note in results["notes"]]
    return "\n".join(lines)


def _cell(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"

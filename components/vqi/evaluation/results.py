"""What an evaluation measures: the parts of `results.json`, and a sentence for every number that could not be had."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vqi.dataset.manifest import Label
from vqi.evaluation.aupro import PixelScores
from vqi.evaluation.calibration import Calibration
from vqi.evaluation.drawn_boxes import NO_BOXES, DrawnBoxes
from vqi.evaluation.metrics import Confusion, Ranking, roc_curve
from vqi.evaluation.predictions import Prediction
from vqi.evaluation.records import Choice, Metrics, Results, TypeMetrics, Verdict
from vqi.evaluation.thresholds import Threshold, promised_rates, standing_out
from vqi.evaluation.verdict import choice, verdict
from vqi.platform.printing import printable

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
# Of some sets alone.
MORE_ROWS = ("au_spro", "au_spro_05", "box_recall")
TYPE_COLUMNS = ("images", "image_auroc", "recall", "pixel_auroc", "aupro")
# Of a set without any mask.
NO_PIXELS = Confusion(true_positive=0, false_positive=0, true_negative=0, false_negative=0)


def compute_metrics(
    predictions: Sequence[Prediction],
    pixels: PixelScores,
    threshold: Threshold,
    classifies: bool = False,
    boxes: DrawnBoxes = NO_BOXES,
) -> Metrics:
    """The metrics of a test split. No metric sees images labelled unknown.

    `classifies`: whether the method has a boundary of its own, defect (the positive class) where its score is above 0.
    """
    good, defective = _scores(predictions, "good"), _scores(predictions, "defect")
    ranking, confusion = Ranking(defective, good), Confusion.at(threshold.image, defective, good)
    own = Confusion.at(0.0, defective, good) if classifies else None
    pixel_ranking = pixels.ranking_metrics()
    of_pixels = pixels.confusion(threshold.pixel) if pixels.regions else NO_PIXELS
    return Metrics(
        image_auroc=ranking.auroc,
        image_aupr=ranking.average_precision,
        image_f1_max=ranking.f1_max,
        accuracy=confusion.accuracy,
        balanced_accuracy=confusion.balanced_accuracy,
        recall=confusion.recall,
        precision=confusion.precision,
        false_reject_rate=confusion.false_reject_rate,
        f1=confusion.dice,
        kappa=confusion.kappa,
        confusion=confusion,
        pixel_auroc=pixel_ranking["pixel_auroc"],
        pixel_aupr=pixel_ranking["pixel_aupr"],
        pixel_f1_max=pixel_ranking["pixel_f1_max"],
        aupro=pixel_ranking["aupro"],
        aupro_05=pixel_ranking["aupro_05"],
        pixel_accuracy=of_pixels.accuracy,
        pixel_iou=of_pixels.iou,
        pixel_miou=of_pixels.mean_iou,
        pixel_dice=of_pixels.dice,
        pixel_kappa=of_pixels.kappa,
        classifier_accuracy=own.accuracy if own else None,
        classifier_balanced_accuracy=own.balanced_accuracy if own else None,
        au_spro=pixels.saturated_overlap(0.3),
        au_spro_05=pixels.saturated_overlap(0.05),
        box_recall=boxes.recall(),
    )


def compute_type_metrics(
    predictions: Sequence[Prediction], pixels: PixelScores, threshold: Threshold, boxes: DrawnBoxes = NO_BOXES
) -> dict[str, TypeMetrics]:
    """By defect type: image AUROC and recall of its images against all good ones, pixel metrics of its pixels against
    all good pixels."""
    good = _scores(predictions, "good")
    types: dict[str, TypeMetrics] = {}
    for kind in sorted({row.defect for row in predictions if row.label == "defect"}):
        scores, pixel_ranking = _scores(predictions, "defect", kind), pixels.ranking_metrics(kind)
        types[kind] = TypeMetrics(
            images=int(scores.size),
            image_auroc=Ranking(scores, good).auroc,
            recall=Confusion.at(threshold.image, scores, good).recall,
            pixel_auroc=pixel_ranking["pixel_auroc"],
            aupro=pixel_ranking["aupro"],
            pixel_recall=pixels.confusion(threshold.pixel, kind).recall,
            box_recall=boxes.recall(kind),
        )
    return types


def compute_mean_scores(predictions: Sequence[Prediction]) -> dict[str, float]:
    """The mean image score by defect type (good and unknown are types)."""
    return {
        kind: float(np.mean(_scores(predictions, label, kind)))
        for label, kind in sorted({(row.label, row.defect) for row in predictions})
    }


def compute_roc(predictions: Sequence[Prediction]) -> tuple[tuple[float, float, float], ...]:
    """The ROC curve of image scores (see metrics.roc_curve)."""
    rows = roc_curve(_scores(predictions, "defect"), _scores(predictions, "good"))
    return tuple((false, true, threshold) for false, true, threshold in rows)


def trade_off(predictions: Sequence[Prediction], calibration: Calibration) -> tuple[Choice, ...]:
    """What other false-reject rates would do on the test split: a row a rate that the calibration can promise, its
    threshold and the decisions there.

    The thresholds still come from normals alone; the counts are for a person to weigh, not for choosing the best row
    and calling it measured.
    """
    good, defective = _scores(predictions, "good"), _scores(predictions, "defect")
    return tuple(choice(calibration, rate, good, defective) for rate in promised_rates(len(calibration.scores)))


def judged(predictions: Sequence[Prediction], calibration: Calibration, threshold: Threshold) -> Verdict:
    """The verdict on the test split."""
    return verdict(calibration, threshold, _scores(predictions, "good"), _scores(predictions, "defect"))


def classifier_note(predictions: Sequence[Prediction]) -> str:
    """What a classifier decides by itself, in a sentence."""
    confusion = Confusion.at(0.0, _scores(predictions, "defect"), _scores(predictions, "good"))
    return (
        f"By its own boundary (score 0) the classifier finds {confusion.true_positive} of {confusion.defects} defects "
        f"and rejects {confusion.false_positive} of {confusion.good} good parts (classifier_accuracy, "
        "classifier_balanced_accuracy). All other decisions here are made at the threshold in use."
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


def missing_notes(predictions: Sequence[Prediction], pixels: PixelScores, boxes: DrawnBoxes = NO_BOXES) -> list[str]:
    """Why metrics are null."""
    good, defective = _scores(predictions, "good"), _scores(predictions, "defect")
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
            "the defects are drawn as boxes, which have no shape to measure by (box_recall is measured)"
            if boxes.count
            else "no defective test image has a mask the network could see"
            if defective.size
            else "the test split has no defective image"
        )
        notes.append(
            "Pixel metrics (pixel_auroc, pixel_aupr, pixel_f1_max, aupro, aupro_05, pixel_iou, pixel_dice ...) are "
            f"left out: {reason}."
        )
    return notes


def table(results: Results) -> str:
    """The results for a terminal: the main metrics, what the threshold did, and a line a defect type."""
    metrics, confusion = results.metrics, results.metrics.confusion
    lines = [f"{results.name} · {results.method} · {results.backbone.name} · weights: {results.weights.label}"]
    lines += [f"  {printable(sentence)[:600]}" for sentence in results.verdict.text]
    measured = [name for name in MORE_ROWS if getattr(metrics, name) is not None]
    lines += [f"  {name:<18}{_cell(getattr(metrics, name))}" for name in (*ROWS, *measured)]
    lines.append(
        f"  threshold {results.threshold.image:.6g}: {confusion.true_positive} of {confusion.defects} defects found, "
        f"{confusion.false_positive} of {confusion.good} good parts rejected"
    )
    if results.per_defect:
        kinds = {kind: printable(kind)[:32] for kind in results.per_defect}
        width = max(6, *map(len, kinds.values()))
        lines.append("  " + "defect".ljust(width) + "".join(name.rjust(13) for name in TYPE_COLUMNS))
        for kind, row in results.per_defect.items():
            cells = "".join(_cell(getattr(row, name)).rjust(13) for name in TYPE_COLUMNS)
            lines.append("  " + kinds[kind].ljust(width) + cells)
    lines += [f"  note: {printable(note)[:400]}" for note in results.notes]
    return "\n".join(lines)


def _scores(predictions: Sequence[Prediction], label: Label, defect: str | None = None) -> np.ndarray:
    """Image scores, float64 [n], of one label, and of one defect type where it is named."""
    return np.array(
        [row.score for row in predictions if row.label == label and defect in (None, row.defect)], dtype=np.float64
    )


def _cell(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"

"""A bundle with another threshold than it was exported with, and what that one promises."""

from __future__ import annotations

from vqi.deployment.sidecar import Sidecar, Thresholds
from vqi.evaluation.thresholds import calibrate, manual_threshold
from vqi.platform.errors import BadInput


def with_threshold(sidecar: Sidecar, false_reject_rate: float | None = None, threshold: float | None = None) -> Sidecar:
    """The sidecar with thresholds for `false_reject_rate`, or with the image threshold `threshold`, from the
    calibration scores it carries; pixel threshold and promise follow. None for both: the sidecar as it is.

    Raises BadInput where both are set, for a rate outside (0, 1), and for a threshold that is not finite.
    """
    calibration = sidecar.calibration
    if threshold is not None and false_reject_rate is not None:
        raise BadInput("A threshold and a false-reject rate exclude each other; give one of them.")
    if threshold is not None:
        chosen = manual_threshold(calibration.evidence, threshold)
    elif false_reject_rate is not None:
        chosen = calibrate(calibration.evidence, false_reject_rate)
    else:
        return sidecar
    pixel = None if sidecar.thresholds.pixel is None else chosen.pixel
    return sidecar.model_copy(
        update={
            "thresholds": Thresholds(image=chosen.image, pixel=pixel, floor=chosen.floor),
            "calibration": calibration.model_copy(
                update={
                    "requested_false_reject_rate": false_reject_rate,
                    "false_reject_rate": chosen.false_reject_rate,
                    "guarantee": chosen.guarantee,
                }
            ),
        }
    )

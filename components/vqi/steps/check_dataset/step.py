"""Check a Dataset before anything is learnt from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vqi.dataset.check_page import check_page
from vqi.dataset.check_record import write_check
from vqi.dataset.checks import REASONS, Verdict, chosen_samples, judge
from vqi.dataset.inspection import ImageInspection, inspect_samples
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput
from vqi.platform.files import write_whole
from vqi.steps.check_dataset.settings import StepSettings


def check_dataset(
    settings: StepSettings,
    *,
    dataset: Path,
    page: Path,
    verdict: Path,
    report: Callable[[str], None] = lambda finding: None,
    inspected: Mapping[str, ImageInspection] | None = None,
) -> Verdict:
    """Inspect every image and mask once, write the HTML `page` and the JSON `verdict`, and return the verdict.

    `report` gets what the set holds and every
    finding, "warning: ...", whether the set passes or not: a warning may hold the reason of an error. What was
    `inspected` already, by hash, is not decoded again.
    Raises BadInput, after both are written, where the set does not pass; warnings do not stop it.
    """
    data, geometry, rate = Dataset(dataset), settings.geometry, settings.threshold.false_reject_rate
    pictured = {path for paths in chosen_samples(data.manifest).values() for path in paths}
    inspections = inspect_samples(data, geometry, pictured, inspected)
    result = judge(data.manifest, inspections, geometry, rate, settings.trains, settings.calibration_fraction)
    write_whole(page, check_page(result, data.manifest, inspections, geometry))
    write_check(verdict, result.record)
    # The first errors are the sentence that the check ends with: nothing is reported twice.
    ended_with = result.errors[:REASONS]
    listed = [finding for finding in result.findings if finding not in ended_with]
    for line in (*result.contents, *(f"{finding.severity}: {finding.sentence}" for finding in listed)):
        report(line)
    if not result.check_pass:
        raise BadInput(
            f"The data set {data.manifest.name} does not pass its check: {result.reasons} The whole list is in {page}."
        )
    return result

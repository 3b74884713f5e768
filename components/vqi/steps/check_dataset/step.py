"""Check a Dataset before anything is learnt from it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

from vqi.dataset.check_page import check_page
from vqi.dataset.check_record import write_check
from vqi.dataset.checks import REASONS, Verdict, chosen_samples, judge
from vqi.dataset.findings.mask_position import compared_paths
from vqi.dataset.geometry import Geometry
from vqi.dataset.inspection import Inspection, inspect_samples
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput, VqiError
from vqi.platform.files import write_whole
from vqi.platform.logs import logger
from vqi.platform.threads import one_blas_thread
from vqi.steps.check_dataset.settings import StepSettings
from vqi.storage.copying import s3_address
from vqi.storage.object_store import Address, ObjectStore

log = logger(__name__)

# Seconds that the store is waited for: the sentence matters more than the page.
PATIENCE = 10.0


def check_dataset(
    settings: StepSettings,
    *,
    dataset: Path,
    page: Path,
    verdict: Path,
    paths: Path | None = None,
    report: Callable[[str], None] = lambda finding: None,
    described: Mapping[str, Image.Image] | None = None,
    page_uri: str = "",
) -> Verdict:
    """Inspect every image and mask once, write the HTML `page`, the JSON `verdict` and the table `paths` of all files
    that findings are about (CSV: severity, code, row, path; files of one row belong together), and return the verdict.

    `report` gets what the set holds and every
    finding, "warning: ...", whether the set passes or not: a warning may hold the reason of an error. What is
    `described` by ingest in this process, by hash, is not decoded for a fine description.
    Raises BadInput, after all are written, where the set does not pass; warnings do not stop it. `page_uri` is where
    KFP would store the page if the step succeeded: it is stored there, since a step that fails leaves nothing.
    """
    data, geometry, rate = Dataset(dataset), settings.geometry, settings.threshold.false_reject_rate
    pictured = {path for paths in chosen_samples(data.manifest).values() for path in paths}
    inspections = inspect_samples(data, geometry, pictured, compared=compared_paths(data.manifest), described=described)
    with one_blas_thread():
        result = judge(data.manifest, inspections, geometry, rate, settings.trains, settings.calibration_fraction)
    write_whole(page, check_page(result, data.manifest, _with_examples(result, data, inspections, geometry), geometry))
    write_check(verdict, result.record)
    if paths:
        write_whole(paths, _table(result))
    # The first errors are the sentence that the check ends with: nothing is reported twice.
    ended_with = result.errors[:REASONS]
    listed = [finding for finding in result.findings if finding not in ended_with]
    for line in (*result.contents, *(f"{finding.severity}: {finding.sentence}" for finding in listed)):
        report(line)
    if not result.check_pass:
        raise BadInput(
            f"The data set {data.manifest.name} does not pass its check: {result.reasons} The whole list is in "
            f"{_stored(page, page_uri)}."
        )
    return result


def _table(verdict: Verdict) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["severity", "code", "row", "path"])
    for finding in verdict.findings:
        for number, row in enumerate(finding.paths, 1):
            writer.writerows([finding.severity, finding.code, number, path] for path in row)
    return table.getvalue()


def _with_examples(
    verdict: Verdict, data: Dataset, inspections: list[Inspection], geometry: Geometry
) -> list[Inspection]:
    """The inspections with pictures of the unusual normals as well, which are known only after all were inspected."""
    bare = {one.sample.path for one in inspections if one.image and one.image.picture is None}
    shown = {normal.path for normal in verdict.unusual}
    shown |= {example.path for finding in verdict.findings for example in finding.examples}
    wanted = bare & shown
    if not wanted:
        return inspections
    pictured = {one.sample.path: one for one in inspect_samples(data, geometry, wanted, only=wanted)}
    return [pictured.get(one.sample.path, one) for one in inspections]


def _stored(page: Path, uri: str) -> str:
    """Where a person finds the page of a set that does not pass."""
    address = s3_address(uri)
    if not address:
        return str(page)
    try:
        ObjectStore.from_environment(patience=PATIENCE).upload_file(page, Address.parse(address))
    except VqiError as error:
        log.warning(f"warning: the page of the check was not stored: {error}")
        return "the step's log"
    return address

"""promote: the bundle of this run against the champion of its name."""

from __future__ import annotations

from pathlib import Path

from vqi.dataset.settings import DataSettings
from vqi.platform.errors import GateRefused
from vqi.platform.logs import logger
from vqi.registry.promotion import Promotion
from vqi.registry.promotion import promote as run
from vqi.registry.promotion_table import promotion_lines, refusal
from vqi.registry.registering import register_bundle
from vqi.steps.promote.settings import StepSettings

log = logger(__name__)


def promote(settings: StepSettings, *, dataset: Path, bundle: Path, dataset_address: str = "") -> Promotion:
    """Hold the bundle against the champion on the test split of `dataset`, and let it take its place where the rule
    allows. It is registered where export did not do so.

    `dataset_address` is what the record calls the Dataset. Raises GateRefused where it is refused, BadInput where there
    is no registry or nothing to compare, RunFailed where the registry does not answer.
    """
    uri, experiment = settings.tracking.uri, settings.tracking.experiment
    version, _ = register_bundle(bundle, settings.name, uri, experiment)
    data = DataSettings(source=str(dataset))
    model = f"{version.name}/{version.version}"
    promotion = run(model, settings.promote, data, uri, settings.seed, shown=dataset_address)
    for line in promotion_lines(promotion):
        log.info(line)
    if promotion.decision == "refused":
        raise GateRefused(refusal(promotion))
    return promotion

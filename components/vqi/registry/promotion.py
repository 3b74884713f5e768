"""Promotion: a candidate becomes the champion where the gate lets it, and a champion before it returns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from vqi.dataset.settings import DataSettings
from vqi.platform.caches import cache_folder
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.logs import logger
from vqi.platform.records import FileRecord, Items
from vqi.registry.compared_photographs import ComparedPhotographs, open_photographs
from vqi.registry.figures import DATASET, FINGERPRINT
from vqi.registry.gate import Figure, judge_first, judge_pair
from vqi.registry.measuring import measure
from vqi.registry.settings import PromoteSettings
from vqi.registry.source import bring
from vqi.tracking.registry import CANDIDATE, CHAMPION, ModelAddress, ModelRegistry, ModelVersion, open_registry

log = logger(__name__)

Decision = Literal["accepted", "refused", "unchanged"]
SINCE, ENDED = "vqi.champion_since", "vqi.champion_until"


class Promotion(FileRecord):
    """What a promotion decided, and by which figures. `champion` is the version that stood before (None: none);
    `unchanged`: the candidate is the champion already, nothing was measured."""

    format_name: ClassVar[str] = "vqi-promotion/1"
    remedy: ClassVar[str] = "promote again"

    name: str
    decision: Decision
    candidate: int
    champion: int | None
    figures: Items[Figure] = ()
    reasons: Items[str] = ()
    notes: Items[str] = ()
    photographs: int = 0
    good: int = 0
    defect: int = 0
    data: str = ""
    decided: str = ""


def promote(
    model: str,
    rule: PromoteSettings,
    data: DataSettings,
    uri: str = "",
    seed: int = 0,
    otherwise: str = "",
    shown: str = "",
) -> Promotion:
    """Hold a version against the champion of its name, and let it take its place where the rule allows.

    `model` is NAME (its alias `candidate`), NAME@ALIAS or NAME/VERSION. `data.source` is a Dataset or a source with
    test photographs (`shown` is what the record calls it); empty: the Dataset that the version was registered with,
    else `otherwise`. The decision and its figures are kept as tags of the version. Raises BadInput where there is
    nothing to compare, RunFailed where the registry does not answer or the champion became another meanwhile.
    """
    address = ModelAddress.parse(model, CANDIDATE)
    with open_registry(uri) as registry, ExitStack() as around:
        candidate = registry.resolve(address)
        champion = registry.version_of(candidate.name, CHAMPION)
        before = champion.version if champion else None
        if champion and champion.version == candidate.version:
            return Promotion(name=candidate.name, decision="unchanged", candidate=candidate.version, champion=before)
        source = data.source or _registered_dataset(candidate) or otherwise
        if not source:
            where = (
                f"its Dataset {candidate.tags[DATASET]} is not here" if DATASET in candidate.tags else "none is known"
            )
            raise BadInput(
                f"{candidate} needs photographs to be compared on, and {where}; name some with --data: a Dataset's "
                "folder, or a set with a test folder."
            )
        compared = around.enter_context(open_photographs(data.model_copy(update={"source": source})))
        cache = around.enter_context(cache_folder("bundles"))
        versions = [candidate, *([champion] if champion else [])]
        bundles = [bring(registry, version, cache) for version in versions]
        defect = np.array([photograph.defect for photograph in compared.photographs])
        groups = [photograph.group for photograph in compared.photographs]
        measured = measure(bundles, compared.photographs)
        if champion:
            judgement = judge_pair(measured[0], measured[1], defect, groups, rule, seed)
        else:
            judgement = judge_first(measured[0], defect, rule)
        refused = [
            f"{row.implausible} of the photographs are not plausible to {version}: its own line would not judge them."
            for row, version in zip(measured, versions, strict=True)
            if row.implausible
        ]
        promotion = Promotion(
            name=candidate.name,
            decision="refused" if judgement.reasons else "accepted",
            candidate=candidate.version,
            champion=before,
            figures=judgement.figures,
            reasons=tuple(judgement.reasons),
            notes=(*_notes(versions, compared), *refused),
            photographs=len(compared.photographs),
            good=judgement.good,
            defect=judgement.defect,
            data=shown or source,
            decided=_now(),
        )
        _keep(registry, promotion, candidate, champion)
        return promotion


def roll_back(name: str, uri: str = "") -> tuple[ModelVersion, ModelVersion | None]:
    """Let the champion before the present one take its place again; both, the present one None where none stood.

    Raises BadInput where no other champion is known.
    """
    with open_registry(uri) as registry:
        present = registry.version_of(name, CHAMPION)
        held = {version.version: version for version in registry.versions(name)}
        earlier = registry.champions(name)
        while earlier and (earlier[-1] not in held or (present and earlier[-1] == present.version)):
            earlier.pop()
        if not earlier:
            stands = f"version {present.version} stands" if present else "none stands"
            raise BadInput(f"No champion of {name} before this one is known ({stands}).")
        back = held[earlier[-1]]
        registry.set_alias(name, CHAMPION, back.version)
        registry.keep_champions(name, earlier)
        if present:
            registry.tag(present, {ENDED: _now()})
        registry.tag(back, {SINCE: _now()})
        return back, present


def _registered_dataset(version: ModelVersion) -> str:
    """The address of the Dataset that a version was registered with, "" where that is not here."""
    address = version.tags.get(DATASET, "")
    return address if address.startswith("s3://") or (address and Path(address).is_dir()) else ""


def _notes(versions: Sequence[ModelVersion], compared: ComparedPhotographs) -> list[str]:
    """What a person should know about the photographs."""
    notes = []
    candidate, *others = versions
    if compared.fingerprint != candidate.tags.get(FINGERPRINT):
        which = "another Dataset's than" if compared.fingerprint else "not known to be"
        notes.append(
            f"The photographs are {which} the test split of {candidate}: it may have learnt from some of them."
        )
    for champion in others:
        if champion.tags.get(FINGERPRINT) != candidate.tags.get(FINGERPRINT):
            notes.append(
                f"{champion} learnt from another set than {candidate}: where some of these photographs were among what "
                "it learnt from, its figures are too good."
            )
    return notes


def _keep(
    registry: ModelRegistry, promotion: Promotion, candidate: ModelVersion, champion: ModelVersion | None
) -> None:
    """Store the decision, and move the alias where it is yes."""
    registry.tag(
        candidate,
        {
            "promotion.decision": promotion.decision,
            "promotion.decided": promotion.decided,
            "promotion.against": str(champion) if champion else "none",
            "promotion.data": promotion.data,
            "promotion.reasons": "; ".join(promotion.reasons),
            "promotion.figures": json.dumps([_rounded(figure) for figure in promotion.figures]),
        },
    )
    if promotion.decision != "accepted":
        return
    now = registry.version_of(candidate.name, CHAMPION)
    if (now.version if now else None) != promotion.champion:
        raise RunFailed(
            f"The champion of {candidate.name} became another while {candidate} was compared; promote it again."
        )
    earlier = registry.champions(candidate.name)
    if champion and champion.version not in earlier[-1:]:
        earlier.append(champion.version)
    # The list first: whatever ends this process, the champion before is known.
    registry.keep_champions(candidate.name, [*earlier, candidate.version])
    registry.set_alias(candidate.name, CHAMPION, candidate.version)
    registry.tag(candidate, {SINCE: promotion.decided})
    if champion:
        registry.tag(champion, {ENDED: promotion.decided})
    if CANDIDATE in candidate.aliases:
        registry.delete_alias(candidate.name, CANDIDATE)


def _rounded(figure: Figure) -> dict[str, Any]:
    values = figure.values()
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in values.items() if value != ""}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

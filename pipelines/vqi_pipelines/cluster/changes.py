"""Which categories changed: their catalog entry since a git revision, or entry and photographs since they were last
trained well."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from vqi.category import Category
from vqi.platform.errors import BadInput
from vqi.platform.files import canonical_json, write_json
from vqi.storage.listing import listing_fingerprint
from vqi.storage.object_store import Address, ObjectStore
from vqi_pipelines.catalog import catalog_folders


@dataclass(frozen=True)
class Fingerprints:
    """What a category was when it was last trained: its entry, and its photographs as the store lists them ("" where
    they are in none)."""

    entry: str
    data: str


def fingerprints(category: Category) -> Fingerprints:
    """A category as it is now. Listing is enough: an object that changes gets another ETag. Raises what the store's
    listing raises."""
    data = ""
    if category.data.source.startswith("s3://"):
        data = listing_fingerprint(category.data.source, "data.source")
    return Fingerprints(hashlib.sha256(canonical_json(category.parameters())).hexdigest(), data)


def entries_changed_since(revision: str) -> set[str]:
    """The categories whose file in the catalog differs from the git revision's. Raises BadInput where git cannot
    tell."""
    changed: set[str] = set()
    for folder in catalog_folders():
        command = [
            "git",
            "-C",
            str(folder),
            "diff",
            "--name-only",
            "--relative",
            "--end-of-options",
            revision,
            "--",
            ".",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BadInput(f"git cannot say what changed since {revision!r} ({error}).") from error
        if done.returncode:
            reason = " ".join(done.stderr.split("\n")[0].split()).removeprefix("fatal: ")
            raise BadInput(
                f"git cannot say what changed since {revision!r} in {folder} ({reason}); a shallow clone lacks it: "
                "fetch it first."
            )
        changed |= {Path(line).stem for line in done.stdout.splitlines() if line.endswith(".yaml")}
    return changed


def why(name: str, now: Fingerprints, before: dict[str, Fingerprints] | None, edited: set[str] | None) -> str:
    """Why a category is due, "" where it is not. `before` is the state of earlier runs, `edited` what git says; None
    where not asked."""
    if edited is not None and name in edited:
        return "entry edited"
    if before is None:
        return ""
    then = before.get(name)
    if then is None:
        return "not trained before"
    return "entry changed" if then.entry != now.entry else "photographs changed" if then.data != now.data else ""


def read_state(location: str) -> dict[str, Fingerprints]:
    """The state of earlier runs from a file or s3:// address; empty where there is none yet. Raises BadInput for
    anything else there."""
    try:
        if location.startswith("s3://"):
            store = ObjectStore.from_environment()
            if store.find(Address.parse(location)) is None:
                return {}
            with tempfile.TemporaryDirectory() as folder:
                text = store.download_file(location, Path(folder) / "state.json").read_text()
        else:
            text = Path(location).read_text()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--state {location} cannot be read ({error}).") from error
    try:
        return {name: Fingerprints(**value) for name, value in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"--state {location} is not a state that `vqi ci` wrote; remove it to begin anew.") from error


def write_state(location: str, state: dict[str, Fingerprints]) -> None:
    """Keep the state for the next time, whole or not at all."""
    value = {name: asdict(current) for name, current in sorted(state.items())}
    if not location.startswith("s3://"):
        write_json(Path(location), value)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.json"
        write_json(file, value)
        ObjectStore.from_environment().upload_file(file, Address.parse(location))

"""The Bundle: a folder with the graphs, the index and one JSON sidecar that says everything a prediction needs. It runs
without torch.

    bundle.json           this module: preprocessing, inputs and outputs, thresholds and their guarantee, fingerprints,
                          versions, the formats inside, hashes
    index.safetensors     the index tensors, where the method has any
    golden.safetensors    a few photographs as the network saw them, whose scores the sidecar holds
    model.onnx ...        the graph: `images` and the index tensors in, `score` and `map` out; in one or more formats,
                          each with files of its own (vqi.deployment.exports)

A bundle may come from anywhere: its sidecar is parsed strictly, and the files of every format that is known here are
those the format states and are checked against their hashes before use. Formats that are not known here are ignored.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from vqi.deployment.bundle_2 import FORMAT_2, Sidecar2
from vqi.deployment.bundle_files import BUNDLE_FILE, GOLDEN, INDEX, SIDECAR
from vqi.deployment.exports import ExportFormat, export_formats
from vqi.deployment.exports.export_format import covers
from vqi.deployment.sidecar import EARLIER_FORMAT, FORMAT, FileEntry, FormatEntry, Sidecar
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import sha256_of, write_json

VERSION_CHARACTERS = 12


def bundle_version(folder: Path) -> str:
    """What tells a bundle from every other: the beginning of its sidecar's SHA-256, which holds those of all files.
    Raises BadInput where there is no sidecar."""
    path = folder / SIDECAR
    if not path.is_file():
        raise BadInput(f"{folder} is not a bundle: {SIDECAR} is missing.")
    return sha256_of(path)[:VERSION_CHARACTERS]


def shared_files(folder: Path) -> dict[Literal["index.safetensors", "golden.safetensors"], FileEntry]:
    """Hash and size of what the formats of a bundle in `folder` share."""
    shared: tuple[Literal["index.safetensors", "golden.safetensors"], ...] = (INDEX, GOLDEN)
    return {name: _file_entry(folder / name) for name in shared if (folder / name).is_file()}


def format_files(export_format: ExportFormat, folder: Path) -> dict[str, FileEntry]:
    """Hash and size of every file of a format in the bundle `folder`, by its name in the bundle.

    Raises RunFailed where one that the format states is missing.
    """
    names: list[str] = []
    for name in export_format.files:
        held = sorted((folder / name).rglob("*")) if name.endswith("/") else [folder / name]
        files = [path.relative_to(folder).as_posix() for path in held if path.is_file()]
        if not files:
            raise RunFailed(f"The export format {export_format.name} did not write its file {name}; mend the format.")
        if unusable := [file for file in files if not re.fullmatch(BUNDLE_FILE, file)]:
            raise RunFailed(
                f"The export format {export_format.name} wrote {unusable[0]!r}; names in a bundle are of letters, "
                "digits, '_', '.' and '-', and do not begin with '.' or '-'; mend the format."
            )
        names += files
    return {name: _file_entry(folder / name) for name in names}


def _file_entry(path: Path) -> FileEntry:
    return FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)


def write_sidecar(folder: Path, sidecar: Sidecar) -> None:
    """Write `bundle.json`, the last file of a bundle."""
    write_json(Path(folder) / SIDECAR, sidecar.model_dump(mode="json"))


def read_sidecar(folder: Path) -> Sidecar:
    """Parse `bundle.json` strictly and check the files of every format that is known here against their hashes.

    A bundle of the format before this one is read too. Raises BadInput where the sidecar is missing, of another format
    or malformed, and where a file is missing or differs.
    """
    folder = Path(folder)
    path = folder / SIDECAR
    try:
        text = path.read_text(encoding="utf-8")
        sidecar = _parsed(text, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if folder.is_symlink() and not folder.exists():
            aim = folder.readlink()
            raise BadInput(
                f"{folder} is a link to {aim}, which is not here; copy the folder itself (cp -rL, rsync -L)."
            ) from error
        raise BadInput(
            f"{folder} is not a bundle: {SIDECAR} is missing; give the folder the export step wrote."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({type(error).__name__}); export again.") from error
    known = export_formats()
    if sidecar.graph.index and INDEX not in sidecar.files:
        raise BadInput(f"{path} does not name {INDEX}; export again.")
    if sidecar.golden and GOLDEN not in sidecar.files:
        raise BadInput(f"{path} does not name {GOLDEN}; export again.")
    for file, entry in sidecar.files.items():
        _check_file(folder, file, entry)
    for name, inside in sidecar.formats.items():
        if name in known:
            _check_format(folder, known[name], inside)
    return sidecar


def _check_format(folder: Path, export_format: ExportFormat, inside: FormatEntry) -> None:
    """Raise BadInput where a format's entry or files are not what the format states, or differ from their hashes."""
    path, name = folder / SIDECAR, export_format.name
    if inside.model_extra:
        raise BadInput(
            f"{path} is malformed at formats.{name}.{next(iter(inside.model_extra))} (this version knows no such key); "
            "export again, or use the version of vqi that made it."
        )
    for stated in export_format.files:
        if not any(covers(stated, file) for file in inside.files):
            raise BadInput(f"{path} does not name {stated} of its format {name}; export again.")
    for file, entry in inside.files.items():
        if not export_format.owns(file):
            raise BadInput(
                f"{path} is malformed at formats.{name}.files.{file} (not a file of this format); export again."
            )
        _check_file(folder, file, entry, f" of its format {name}")


def _check_file(folder: Path, name: str, entry: FileEntry, owner: str = "") -> None:
    file = folder / name
    if not file.is_file():
        raise BadInput(f"The bundle {folder} lacks its file {name}{owner}; copy it whole or export again.")
    if file.stat().st_size != entry.bytes or sha256_of(file) != entry.sha256:
        raise BadInput(
            f"The file {name} of the bundle {folder}{',' if owner else ''}{owner}{',' if owner else ''} is not the one "
            "that was exported (its SHA-256 differs); export again."
        )


def _parsed(text: str, path: Path) -> Sidecar:
    try:
        value = json.loads(text)
        version = value.get("format") if isinstance(value, dict) else None
        if version not in (FORMAT, EARLIER_FORMAT, FORMAT_2):
            raise BadInput(f"{path} has format {version!r}, this version reads {FORMAT!r}; {_remedy(version)}.")
        # JSON has no tuples: validating the text itself lets arrays stand for them while staying strict about
        # everything else.
        if version == FORMAT_2:
            sidecar = Sidecar2.model_validate_json(text).as_current()
        else:
            sidecar = Sidecar.model_validate_json(text)
        height, width = sidecar.geometry.input_size
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(
            f"{path} is malformed at {'.'.join(map(str, first['loc']))} ({first['msg']}); export again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not readable JSON ({type(error).__name__}); export again.") from error
    if sidecar.graph.input_shape != [None, 3, height, width]:
        raise BadInput(
            f"{path} contradicts itself: the graph takes {sidecar.graph.input_shape}, the geometry {height} x "
            f"{width}; export again."
        )
    return sidecar


def _remedy(version: Any) -> str:
    """What to do about a sidecar of another format."""
    if not (isinstance(version, str) and re.fullmatch(r"vqi-bundle/\d{1,4}", version)):
        return "export again"
    if int(version.rpartition("/")[2]) > int(FORMAT.rpartition("/")[2]):
        return "a newer vqi made it: use that version here"
    lacking = "it does not hold how files are decoded, the calibration scores and the plausible ranges"
    return f"{lacking}: run the category again, or use the version of vqi that made it"

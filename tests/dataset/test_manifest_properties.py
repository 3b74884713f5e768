"""Whatever a Dataset holds: its manifest survives the file, and the fingerprint is that of the content alone."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vqi.dataset.manifest import FORMAT, MANIFEST, Extent, Label, Manifest, MaskFile, Sample, Split, read_manifest
from vqi.dataset.masks import MaskMeaning
from vqi.dataset.saturation import Saturation
from vqi.platform.errors import BadInput

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
HASHES = st.text(string.hexdigits.lower()[:16], min_size=64, max_size=64)
EXTENTS = st.builds(Extent, TEXT, st.integers(0, 1 << 40), st.integers(0, 1 << 40))
MASKS = st.lists(st.builds(MaskFile, TEXT, HASHES, EXTENTS), max_size=2).map(tuple)
SAMPLES = st.lists(
    st.builds(
        Sample,
        path=TEXT,
        sha256=HASHES,
        split=st.sampled_from(get_args(Split)),
        label=st.sampled_from(get_args(Label)),
        defect=TEXT,
        width=st.integers(0, 1 << 20),
        height=st.integers(0, 1 << 20),
        image=EXTENTS,
        masks=MASKS,
        group=TEXT,
        boxes=st.lists(st.tuples(*[st.integers(0, 1 << 20)] * 4), max_size=2).map(tuple),
        metadata=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
    ),
    max_size=4,
    unique_by=lambda sample: sample.path,
).map(tuple)
CHANNEL = st.integers(0, 65535)
MEANINGS = st.builds(
    MaskMeaning,
    background=st.tuples(*[CHANNEL] * 4),
    marks=st.lists(st.tuples(*[CHANNEL] * 4), max_size=2).map(tuple),
    by_index=st.booleans(),
    wide_scaled=st.booleans(),
    problem=TEXT,
)
SATURATIONS = st.builds(
    Saturation, name=TEXT, value=st.integers(1, 255), threshold=st.floats(0.01, 1), relative=st.booleans()
)
SHARE = st.floats(0, 0.9)
MANIFESTS = st.builds(
    Manifest,
    name=TEXT,
    samples=SAMPLES,
    seed=st.integers(0, 2**31 - 1),
    calibration_fraction=SHARE,
    notes=st.lists(TEXT, max_size=3).map(tuple),
    labelled_fraction=SHARE,
    mask_meaning=MEANINGS,
    copies_cross=st.booleans(),
    saturation=st.lists(SATURATIONS, max_size=2).map(tuple),
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dataset's folder that every example overwrites."""
    return tmp_path_factory.mktemp("dataset")


def reread(folder: Path, text: str | bytes) -> Manifest:
    (folder / MANIFEST).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_manifest(folder)


@given(MANIFESTS)
def test_every_manifest_survives_its_file(folder: Path, manifest: Manifest) -> None:
    back = reread(folder, manifest.to_json())
    assert back == manifest
    assert back.fingerprint == manifest.fingerprint
    assert back.to_json() == manifest.to_json()


@given(MANIFESTS, st.randoms(use_true_random=False), TEXT, st.integers(0, 2**31 - 1), EXTENTS)
def test_the_same_content_has_the_same_fingerprint(
    manifest: Manifest, random: Any, text: str, seed: int, extent: Extent
) -> None:
    """In any order, in other shards, under another name and drawn with another seed."""
    moved = [replace(sample, image=extent) for sample in manifest.samples]
    random.shuffle(moved)
    other = replace(manifest, name=text, seed=seed, notes=(text,), samples=tuple(moved))
    assert other.fingerprint == manifest.fingerprint


@given(MANIFESTS, st.data())
def test_other_content_has_another_fingerprint(manifest: Manifest, data: st.DataObject) -> None:
    assume(manifest.samples)
    position = data.draw(st.integers(0, len(manifest.samples) - 1))
    sample = manifest.samples[position]
    values = {
        "path": TEXT,
        "sha256": HASHES,
        "split": st.sampled_from(get_args(Split)),
        "label": st.sampled_from(get_args(Label)),
        "defect": TEXT,
        "group": TEXT,
    }
    field = data.draw(st.sampled_from([*values, "mask", "sample", "meaning"]))
    rows = list(manifest.samples)
    meaning = manifest.mask_meaning
    if field == "mask":
        rows[position] = replace(sample, masks=(*sample.masks, MaskFile("mask.png", "0" * 64, sample.image)))
    elif field == "sample":
        del rows[position]
    elif field == "meaning":
        meaning = replace(meaning, by_index=not meaning.by_index)
    else:
        value = data.draw(values[field])
        assume(value != getattr(sample, field))
        rows[position] = replace(sample, **{field: value})
    other = replace(manifest, samples=tuple(rows), mask_meaning=meaning)
    assert other.fingerprint != manifest.fingerprint


@given(MANIFESTS, st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_a_damaged_manifest_is_refused_or_has_the_same_content(
    folder: Path, manifest: Manifest, position: float, value: int
) -> None:
    data = bytearray(manifest.to_json().encode())
    data[int(position * len(data))] = value
    try:
        back = reread(folder, bytes(data))
    except BadInput:
        return
    assert back.fingerprint == manifest.fingerprint


@given(JSON | st.dictionaries(st.sampled_from(sorted(json.loads(Manifest("", (), 0, 0).to_json()))), JSON))
def test_json_that_is_not_a_manifest_is_refused(folder: Path, value: Any) -> None:
    if isinstance(value, dict):
        value["format"] = FORMAT
    with pytest.raises(BadInput):
        reread(folder, json.dumps(value))

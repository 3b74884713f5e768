"""The photographs of a set aligned to a reference, once, by ingest: what each step then reads in the manifest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from vqi.dataset.alignment import Alignment, Reference
from vqi.dataset.layouts.listing import counted, examples
from vqi.dataset.manifest import Manifest, Sample
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput, closest
from vqi.platform.progress import tracked
from vqi.platform.threads import decoding_threads

AUTO = "auto"


def align_samples(folder: Path, manifest: Manifest, wanted: str, shift: float, angle: float) -> Manifest:
    """The manifest with every sample's place against the photograph `wanted`, a path of the set, or AUTO: the first
    normal that is learnt from.

    `folder` holds the Dataset with the manifest. A photograph that cannot be decoded has none: the check names it.
    Raises BadInput where the reference is not in the set or cannot be decoded.
    """
    data = Dataset(folder)
    normals = [sample.path for sample in manifest.samples if (sample.split, sample.label) == ("train", "good")]
    path = normals[0] if wanted == AUTO and normals else wanted
    sample = next((sample for sample in manifest.samples if sample.path == path), None)
    if sample is None:
        hint = closest(path, [sample.path for sample in manifest.samples])
        raise BadInput(f"image.align is {path!r}, which is not a photograph of the set.{hint}")
    reference = Reference.of(path, data.image(sample), shift, angle)

    def align(sample: Sample) -> Alignment | None:
        try:
            return reference.align(data.image(sample))
        except BadInput:
            return None

    with ThreadPoolExecutor(decoding_threads()) as pool:
        alignments = list(tracked(pool.map(align, manifest.samples), "ingest: aligning", len(manifest.samples)))
    samples = tuple(
        replace(sample, alignment=alignment) for sample, alignment in zip(manifest.samples, alignments, strict=True)
    )
    return replace(manifest, samples=samples, reference=reference, notes=(*manifest.notes, _note(reference, samples)))


def _note(reference: Reference, samples: tuple[Sample, ...]) -> str:
    failed = [sample.path for sample in samples if sample.alignment is not None and sample.alignment.matrix is None]
    whole = f"Photographs are aligned to {reference.path}"
    if not failed:
        return f"{whole}."
    used = "is used as it is" if len(failed) == 1 else "are used as they are"
    return f"{whole}; {counted(len(failed), 'photograph')} could not be, and {used} ({examples(failed)})."

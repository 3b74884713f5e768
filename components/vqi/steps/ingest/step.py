"""Ingest: photographs from wherever they lie into the Dataset contract (a manifest and tar shards)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from vqi.dataset.drawn_masks import drawn_notes
from vqi.dataset.exclusion import exclude
from vqi.dataset.grouping import group_photographs, inspect_photographs, is_dealt, near_copies
from vqi.dataset.inspection_rows import InspectionWriter
from vqi.dataset.intake import ignored_note, left_out_note, write_shards
from vqi.dataset.layouts.contents import Contents
from vqi.dataset.layouts.detection import read_layout
from vqi.dataset.layouts.interface import Options, SourceFiles
from vqi.dataset.manifest import MANIFEST, Manifest
from vqi.dataset.masks import decide_meaning
from vqi.dataset.placing import align_samples
from vqi.dataset.sample_splits import split_photographs
from vqi.dataset.sources import open_source
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import whole_folder, write_whole
from vqi.steps.ingest.settings import StepSettings


def ingest(
    settings: StepSettings,
    *,
    dataset: Path,
    report: Callable[[str], None] = lambda note: None,
    checked: bool = True,
    described: dict[str, Image.Image] | None = None,
) -> Manifest:
    """Write the Dataset of `data.source` to the folder `dataset` and return its manifest.

    `data.source` is a folder, a tar or zip archive, or s3://bucket/prefix. `data.calibration_fraction` is the share of
    training normals held out for thresholds; None lets their number decide, the false-reject rate that is wanted, and
    whether the method `trains` (`plan_calibration`). `data.labelled_fraction` is the share of the layout's test
    photographs, of every defect type and of the good ones alike, that supervised methods learn from. Photographs with
    the same bytes, near copies and photographs of one part stay together in every split; `data.group` is a regular
    expression that names the part a photograph shows (`part_of`). `pixels.white_level` is the value of white in files
    with more than 8 bits a channel (None: decided from the normals), `pixels.range` black and white in those of
    floating-point values, which are refused without; the dataset check refuses a photograph of more than
    `pixels.max_megapixels`. With `pixels.align` it is found how every photograph lies against a reference. Up to
    `data.skip_damaged` photographs that cannot be decoded, or have a mask that cannot, are left out: with 0 the check
    names all that are damaged. What `data.exclude` names is left out before anything else is decided. `report` gets
    every note of the manifest as soon as it is known: those that decide what is learnt come before any photograph is
    read. `checked`: whether a check follows, which reads what ingest notes of every photograph in place of decoding it;
    `described` gets what is described of some by their hash, for a check in this process. The same content and seed
    give the same bytes, whatever the source. Raises BadInput where the source cannot be read as the layout says, or
    more photographs are damaged than may be left out; RunFailed where it cannot be reached or the disk is full.
    """
    name, seed, data = settings.name, settings.seed, settings.data
    source, skip_damaged, calibration_fraction = data.source, data.skip_damaged, data.calibration_fraction
    labelled_fraction = data.labelled_fraction or 0.0
    white_level, rate = settings.pixels.white_level, settings.threshold.false_reject_rate
    decoding = settings.pixels.decoding
    try:
        with open_source(source) as origin, whole_folder(dataset) as folder:
            options = Options(data.mask_suffix, data.good, data.defect, data.good_class)
            files = SourceFiles(origin.files, origin.name)
            reading = read_layout(files, data.layout, options, origin.notes, data.most_per_class)
            reading = exclude(reading, data.exclude)
            for note in reading.notes:
                report(note)
            if not any(photograph.is_training_normal for photograph in reading.photographs):
                raise BadInput(f"The source {source} has no normal photographs to train on.")
            photographs = sorted(reading.photographs, key=lambda photograph: photograph.path)
            contents = Contents(origin.files, reading)
            intake = write_shards(
                photographs,
                contents,
                reading.layout,
                folder,
                decoding,
                white_level is None,
                settings.pixels.profiles,
                skip_damaged,
            )
            decoding = replace(decoding, profiles=intake.profiles.converts)
            photographs = [photograph for photograph in photographs if photograph.path not in intake.damaged]
            if not any(photograph.is_training_normal for photograph in photographs):
                raise BadInput(f"Every normal photograph of {source} is damaged; bring sound ones.")
            if settings.pixels.range is None:
                intake.floats.ask()
            masks = sorted({path for photograph in photographs for path in photograph.mask_files})
            meaning, stated_masks = decide_meaning(masks, contents.of_file, decoding.max_pixels)
            stated_white = (
                f"White is {white_level} in photographs with more than 8 bits a channel, as image.white_level says."
                if white_level
                else ""
            )
            if white_level is None:
                chosen, stated_white = intake.white.decide()
                decoding = replace(decoding, white_level=chosen)
            stated = (
                left_out_note(intake.damaged, skip_damaged),
                *drawn_notes(intake.drawn),
                ignored_note(photographs),
                stated_masks,
                stated_white,
                intake.floats.note(settings.pixels.range),
                *intake.profiles.notes,
            )
            notes = (*reading.notes, *filter(None, stated))
            dealt_paths = {p.path for p in photographs if is_dealt(p, labelled_fraction)}
            looked_at = [p for p in photographs if checked or p.path in dealt_paths]
            with InspectionWriter(folder) as rows:
                numbers = inspect_photographs(looked_at, folder, decoding, intake.stored, rows, checked, described)
                alike = near_copies({path: at for path, at in numbers.items() if path in dealt_paths}, rows)
            grouping = group_photographs(photographs, intake.stored, alike, data.group, labelled_fraction)
            samples, fraction, dealt = split_photographs(
                photographs,
                intake,
                grouping,
                calibration_fraction,
                labelled_fraction,
                seed,
                rate,
                settings.trains,
            )
            notes = (*notes, *grouping.notes, *dealt)
            manifest = Manifest(
                name,
                samples,
                seed,
                fraction,
                notes,
                labelled_fraction,
                decoding,
                meaning,
                grouping.copies_cross,
                reading.saturation,
                intake.profiles.count if decoding.profiles else 0,
            )
            write_whole(folder / MANIFEST, manifest.to_json())
            if settings.pixels.align:
                manifest = align_samples(folder, manifest, settings.pixels.align, *settings.pixels.align_limit)
                write_whole(folder / MANIFEST, manifest.to_json())
            for note in manifest.notes[len(reading.notes) :]:
                report(note)
            return manifest
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailed(
                f"The disk is full while the photographs of {source} are brought in; free space or choose another "
                "folder."
            ) from error
        reason = f"{error.strerror or error} ({error.filename or 'no file named'})"
        raise RunFailed(f"The photographs of {source} cannot be brought in: {reason}.") from error

"""What an evaluation keeps of the scored images as they stream by, and what it could not use."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np

from vqi.dataset.geometry import Geometry
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.evaluation.aupro import PixelScores, label_regions
from vqi.evaluation.box_rule import BoxRule
from vqi.evaluation.drawn_boxes import DrawnBoxes
from vqi.evaluation.pictures import Example, Scale, picture_name, save_picture, views
from vqi.evaluation.pictures import boxes as detect_boxes
from vqi.evaluation.predictions import Decision, Prediction
from vqi.evaluation.raw_maps import SUFFIX, encode_map
from vqi.evaluation.records import MAPS, PICTURES, PREDICTIONS, ComparedPhotograph
from vqi.evaluation.report import ExampleChooser
from vqi.evaluation.settings import EvaluationSettings
from vqi.evaluation.thresholds import Threshold
from vqi.pages.page import data_uri
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import write_whole
from vqi.platform.memory import announce

# Every picture is a file that a cluster copies by itself: by default all that went wrong up to a bound, and enough of
# the rest to see what right looks like.
PICTURES_WRONG, PICTURES_RIGHT = 100, 8
COMPARED, COMPARED_SIDE = 3, 200


def compared_photographs(samples: list[Sample]) -> set[str]:
    """The photographs that comparisons show, the same for every method: one of each of the first defect types, with a
    mask where there is one."""
    first: dict[str, Sample] = {}
    for sample in sorted((s for s in samples if s.label == "defect"), key=lambda s: (s.defect, not s.masks, s.path)):
        first.setdefault(sample.defect, sample)
    return {sample.path for sample in list(first.values())[:COMPARED]}


class Collector:
    """What is kept of the scored images as they stream by: a row each, good and defect pixels, a few examples, and what
    was left out and why."""

    def __init__(
        self,
        data: Dataset,
        samples: list[Sample],
        geometry: Geometry,
        threshold: Threshold,
        box_rule: BoxRule,
        settings: EvaluationSettings | None = None,
    ) -> None:
        self.settings = settings or EvaluationSettings()
        self.data, self.geometry, self.threshold, self.box_rule = data, geometry, threshold, box_rule
        height, width = geometry.map_size
        measured_images = sum(sample.label == "good" or bool(sample.masks) for sample in samples)
        announce(
            f"evaluate: map values of {measured_images} images of {height} x {width}",
            4 * measured_images * height * width,
        )
        self.pixels = PixelScores(measured_images * height * width)
        self.predictions: list[Prediction] = []
        self.chooser = ExampleChooser(threshold.image)
        self.boxes = DrawnBoxes()
        self.drawn: Counter[tuple[str, str, str]] = Counter()
        self.left_out: Counter[str] = Counter()
        self.low_maps = 0
        self.compared = compared_photographs(samples)
        self.examples: list[ComparedPhotograph] = []

    def add(self, sample: Sample, score: float, values: np.ndarray, folder: Path | None) -> None:
        """One scored image with its map, float32 [h, w] of the geometry's `map_size`; its files go below `folder`,
        None: for the metrics alone."""
        original = (sample.height, sample.width)
        inside = self.geometry.inside(original)
        if not (np.isfinite(score) and np.isfinite(values if inside is None else values[inside]).all()):
            raise RunFailed(
                f"The detector's score or map of {sample.path} is not finite (score {score}); check the image, the "
                "weights and compute.precision."
            )
        decision: Decision = "defect" if score > self.threshold.image else "good"
        mask = self._fitting(self.data.mask(sample), sample)
        ignored = self.data.ignored(sample)
        self._measure(sample, values, mask, ignored, None if inside is None else ~inside)
        highest = float((values if inside is None else values[inside]).max())
        marked = decision == "defect" or (self.box_rule.marks_good and highest > self.threshold.pixel)
        shows = folder is not None
        wanted = shows and self.chooser.wants(label=sample.label, defect=sample.defect, score=score)
        drawn = shows and self._draws(sample, decision)
        compared = shows and sample.path in self.compared
        shown = marked or wanted or drawn or compared
        full_map = self._whole_map(sample, values) if shown else None
        level = math.inf if full_map is None else self.box_rule.level(full_map, decision, self.threshold.pixel)
        map_boxes = [] if full_map is None else detect_boxes(full_map, level)
        self._measure_boxes(sample, full_map, level)
        self.low_maps += bool(self.box_rule.marks_good and decision == "defect" and level < self.threshold.pixel)
        self.predictions.append(
            Prediction(
                sample.path,
                sample.split,
                sample.label,
                sample.defect,
                score,
                decision,
                highest,
                tuple(map_boxes),
                sample.alignment.reason if sample.alignment else "",
            )
        )
        if folder is not None and self.settings.maps != "none":
            self._write_map(folder / MAPS, sample, score, decision, values)
        if full_map is not None and (wanted or drawn or compared):
            image = self.data.image(sample)
            example = Example(
                sample.path, sample.label, sample.defect, score, decision, image, full_map, mask, level, ignored
            )
            if wanted:
                self.chooser.offer(example)
            if drawn and folder is not None:
                save_picture(folder / PICTURES, example, self.threshold.pixel, floor=self.threshold.floor)
            if compared:
                self.examples.append(self._small(example, decision))

    def _write_map(self, folder: Path, sample: Sample, score: float, decision: Decision, values: np.ndarray) -> None:
        """The map at the photograph's size, called as its picture is."""
        assert self.settings.maps != "none"
        whole = self._whole_map(sample, values)
        named = Example(sample.path, sample.label, sample.defect, score, decision, np.zeros((1, 1, 3), np.uint8), whole)
        name = picture_name(named)
        raw = encode_map(whole, self.settings.maps)
        write_whole(folder / name.with_name(name.name + SUFFIX[self.settings.maps]), raw.content)

    def _small(self, example: Example, decision: Decision) -> ComparedPhotograph:
        """What a comparison shows of one photograph: as data addresses, so that all of them are one file."""
        shown = dict(views(example.resized(COMPARED_SIDE), Scale(self.threshold.pixel, self.threshold.floor)))
        return ComparedPhotograph(
            path=example.path,
            label=example.label,
            defect=example.defect,
            decision=decision,
            score=example.score,
            photograph=str(data_uri(shown.get("truth", shown["image"]), quality=75)),
            heatmap=str(data_uri(shown["heatmap"], quality=75)),
        )

    def _fitting(self, mask: np.ndarray | None, sample: Sample) -> np.ndarray | None:
        """The mask, bool [H, W] of the original; None where there is none. Raises BadInput where it has another
        size."""
        if mask is not None and mask.shape != (sample.height, sample.width):
            raise BadInput(
                f"The mask {sample.masks[0].path} has {mask.shape[1]} x {mask.shape[0]} pixels and its image "
                f"{sample.path} "
                f"{sample.width} x {sample.height}; draw it at the image's size."
            )
        return mask

    def _measure(
        self,
        sample: Sample,
        values: np.ndarray,
        mask: np.ndarray | None,
        ignored: np.ndarray | None,
        outside: np.ndarray | None,
    ) -> None:
        """Count the map's pixels where the truth about them is known, in the map's geometry; remember what could not be
        counted. What lies in a box, in an ignored region or `outside` of the area counts neither way."""
        if sample.label == "unknown":
            return
        self.left_out["ignored images"] += ignored is not None and bool(ignored.any())
        excluded = outside if ignored is None else _either(self._masked(sample, ignored), outside)
        if sample.label == "good":
            self.pixels.add(values, excluded=excluded)
            return
        boxed = self.data.boxed(sample)
        if boxed is not None:
            mask = self.data.outlines(sample)
            if mask is None or not mask.any():
                self.left_out["boxed"] += 1
                return
            boxed = boxed & ~mask if ignored is None else boxed & ~mask | ignored
            excluded = _either(self._masked(sample, boxed), outside)
        if mask is None or not mask.any():
            self.left_out["without a mask" if mask is None else "with an empty mask"] += 1
            return
        labels, _ = label_regions(mask)
        if ignored is not None:
            labels[ignored] = 0
            mask = labels > 0
        moved = sample.alignment is not None and sample.alignment.matrix is not None
        if self.geometry.crop or self.geometry.region or self.geometry.area or moved:
            # A pixel that no map value falls on lies outside what the network saw.
            unseen = int(np.count_nonzero(np.isnan(self._whole_map(sample, np.zeros_like(values))) & mask))
            self.left_out["unseen pixels"] += unseen
            self.left_out["unseen images"] += unseen > 0
        seen = self.geometry.apply_labels(self.data.aligned_labels(sample, labels))
        if excluded is not None:
            seen[excluded] = 0
        self.left_out["regions"] += np.unique(labels[labels > 0]).size - np.unique(seen[seen > 0]).size
        if seen.any():
            saturated = [
                (self.geometry.apply_labels(self.data.aligned_labels(sample, region.astype(np.int32))) > 0, share)
                for region, share in self.data.saturated_regions(sample)
            ]
            self.pixels.add(values, seen, sample.defect, excluded, saturated)
        else:
            self.left_out["with a mask that no input pixel falls on"] += 1

    def _masked(self, sample: Sample, mask: np.ndarray) -> np.ndarray:
        """A mask of the photograph, bool [H, W], in the map's geometry: masks move as the photographs do, so that
        metrics count what was scored."""
        return self.geometry.apply_mask(self.data.aligned_labels(sample, mask))

    def _whole_map(self, sample: Sample, values: np.ndarray) -> np.ndarray:
        """A map at the photograph's size and in its place, float32 [H, W]; NaN where the network saw nothing."""
        return self.data.original_map(sample, self.geometry.invert_map(values, (sample.height, sample.width)))

    def _measure_boxes(self, sample: Sample, full_map: np.ndarray | None, level: float) -> None:
        """Count which of a photograph's boxes what is marked of its map reaches into; without a map nothing is."""
        if sample.label != "defect" or not any(mask.kind == "box" for mask in sample.masks):
            return
        boxes = sample.boxes
        if not boxes:  # an older Dataset has them united
            boxed = self.data.boxed(sample)
            assert boxed is not None
            boxes = tuple((x1, y1, x2, y2) for x1, y1, x2, y2, _ in detect_boxes(boxed.astype(np.float32), 0))
        if full_map is None:
            height, width = self.geometry.map_size
            full_map = self._whole_map(sample, np.zeros((height, width), np.float32))
        self.boxes.add(boxes, full_map > level, ~np.isnan(full_map), sample.defect)

    def _region_notes(self) -> list[str]:
        """What was measured of boxes and ignored regions, and of regions with a saturation threshold."""
        sentences = []
        if self.left_out["boxed"]:
            sentences.append(
                f"{self.left_out['boxed']} defective test image(s) whose defects are drawn as boxes are left out of "
                "the pixel metrics."
            )
        if self.boxes.count:
            sentences.append(
                f"box_recall is the share of {self.boxes.count} boxes that what is marked of the map reaches into; "
                "what lies in a box is in no pixel metric."
            )
        if self.boxes.unseen:
            sentences.append(f"{self.boxes.unseen} box(es) lie outside what the network sees and are not counted.")
        if self.left_out["ignored images"]:
            sentences.append(
                f"Regions to ignore of {self.left_out['ignored images']} test image(s) are in no pixel metric."
            )
        if self.data.manifest.saturation and self.pixels.regions:
            sentences.append(
                "au_spro and au_spro_05 take each mask of a photograph as a region that counts as found whole from its "
                "saturation threshold on (MVTec LOCO), up to false-positive rates of .3 and .05."
            )
        return sentences

    def _draws(self, sample: Sample, decision: str) -> bool:
        """Whether this image's picture is written, counting it."""
        right, which = sample.label == decision, self.settings.pictures
        if which != "some":
            return which == "all" or (which == "wrong" and not right and sample.label != "unknown")
        group = ("right", sample.label, sample.defect) if right else ("wrong", sample.label, "")
        self.drawn[group] += 1
        return self.drawn[group] <= (PICTURES_RIGHT if right else PICTURES_WRONG)

    def notes(self) -> list[str]:
        """What was measured how, and what was left out."""
        height, width = self.geometry.map_size
        sentences = [] if self.box_rule.fraction is None else [self.box_rule.sentence]
        if self.geometry.tiling:
            sentences.append(
                f"Each photograph was cut into {self.geometry.inputs} tiles of {self.geometry.input_size[0]} x "
                f"{self.geometry.input_size[1]}; its score is the highest of its tiles, and their maps are blended."
            )
        if self.data.manifest.reference:
            sentences.append(
                f"Photographs were aligned to {self.data.manifest.reference.path} before they were scored, and masks "
                "with them; maps and boxes are those of the photographs as they came."
            )
        if self.geometry.area:
            sentences.append("Pixels outside of image.area are one grey to the network and in no pixel metric.")
        if self.low_maps:
            judged = sum(row.decision == "defect" for row in self.predictions)
            sentences.append(
                f"Of {judged} photograph(s) judged defective {self.low_maps} "
                f"{'has' if self.low_maps == 1 else 'have'} no map value above the pixel "
                "threshold: the image score and the map are two measures, with a threshold each. Their highest "
                "regions are boxed, with a score below "
                "the pixel threshold."
            )
        if bare := sum(row.decision == "defect" and not row.boxes for row in self.predictions):
            sentences.append(
                f"{bare} photograph(s) judged defective {'carries' if bare == 1 else 'carry'} no box: the map has no "
                "value above 0."
            )
        if self.pixels.regions:
            sentences.append(
                f"Pixel metrics are taken on maps of {height} x {width}: regions are counted on the "
                "masks as drawn and brought "
                "there by the nearest pixel; those of one defect type set its pixels against all good pixels of the "
                "test split."
            )
        if self.left_out["regions"]:
            lost, one = self.left_out["regions"], self.left_out["regions"] == 1
            sentences.append(
                f"{lost} of {self.pixels.regions + lost} defect regions {'is' if one else 'are'} not measurable and "
                "in no pixel metric: smaller "
                f"than a pixel of the maps of {height} x {width}, or outside what the network sees; a "
                "larger image.size shows small ones."
            )
        for reason in ("without a mask", "with an empty mask", "with a mask that no input pixel falls on"):
            if self.left_out[reason]:
                sentences.append(
                    f"{self.left_out[reason]} defective test image(s) {reason} are left out of the pixel metrics."
                )
        sentences += self._region_notes()
        if self.left_out["unseen pixels"]:
            sentences.append(
                f"{self.left_out['unseen pixels']} defect pixels of {self.left_out['unseen images']} image(s) lie "
                "outside what the network sees "
                "and are in no pixel metric; make image.crop, image.region or image.area larger where defects can lie "
                "there."
            )
        unknown = sum(row.label == "unknown" for row in self.predictions)
        if unknown:
            sentences.append(
                f"{unknown} test image(s) of unknown label are scored and listed, and counted in no metric."
            )
        hidden = sum(
            max(0, count - (PICTURES_RIGHT if kind == "right" else PICTURES_WRONG))
            for (kind, *_), count in self.drawn.items()
        )
        if hidden:
            sentences.append(
                f"{PICTURES}/ holds up to {PICTURES_RIGHT} images a type that were judged rightly and up to "
                f"{PICTURES_WRONG} that were not; "
                f"{hidden} more are in {PREDICTIONS} alone."
            )
        return sentences


def _either(mask: np.ndarray, other: np.ndarray | None) -> np.ndarray:
    return mask if other is None else mask | other

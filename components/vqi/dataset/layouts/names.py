"""What the words in the names of files and folders say: a good part, a defective part, a mask."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Whole words of a name, without accents, in lower case: English first, then what lines write in German, French,
# Spanish, Italian, Chinese, Japanese.
GOOD_WORDS = _set(
    """
    good ok okay normal normals nominal pass passed accept accepted
    io gut gute gutteil gutteile fehlerfrei bon bonne bueno buono conforme 良品 合格 合格品 正常
    """
)
BAD_WORDS = _set(
    """
    ng nok nogood notgood notok bad ko def defect defects defective anom anomaly anomalies anomalous abnormal
    fail fails failed failure
    fault faults faulty reject rejects rejected scrap flaw flaws flawed damage damaged broken
    scratch scratches scratched
    dent dents dented crack cracks cracked stain stains stained nonconforming
    nio schlecht schlechtteil schlechtteile defekt defekte fehler fehlerhaft ausschuss kratzer riss risse beschadigt
    defaut defauts defectueux mauvais rebut defecto defectos defectuoso malo difetto difetti difettoso scarto
    不良 不良品 缺陷 次品 不合格 不合格品 异常 欠陥
    """
)
_NOT = _set("n no not non without ohne kein keine nicht sans sin senza")
_FREE = _set("free frei less")

GOOD_FOLDERS = ("good", "normal", "normals", "ok", "nominal", "pass")
_GOOD_FOLDERS = GOOD_WORDS | _set(
    "goodparts goodpart okparts okteile nodefect nodefects defectfree anomalyfree nondefective"
)
UNKNOWN_FOLDERS = ("unknown",)
VALIDATION_FOLDERS = ("val", "valid", "validation")
# Folders that only say that pictures lie in them: neither a split nor a defect type.
_IMAGE_FOLDERS = _set("image images img imgs photo photos picture pictures")

_MASK_WORDS = _set("mask masks gt gts groundtruth groundtruths annotation annotations segmentation segmentations")
# Words that name masks only alone or beside another such word: a wrong label and a label's scratch are defect types.
_WEAK_MASK_WORDS = _set("label labels annot annots seg segs")
_BESIDE_MASK_WORDS = _set("png image images img imgs binary pixel pixels train test val class object")
_BESIDE_STRONG_MASK_WORDS = _set("defect defects anomaly anomalies")


def normalised(name: str) -> str:
    """A name in the one form that names are compared and kept in: composed (NFC). A Mac's file system and zips give the
    decomposed one."""
    return unicodedata.normalize("NFC", name)


def folder_key(part: str) -> str:
    """A folder's name as roles are compared: without case and surrounding spaces."""
    return part.strip().casefold()


def words(name: str) -> list[str]:
    """The words of a name: runs of letters in lower case without accents; single letters that follow one another are
    one word ("n.i.O.": nio)."""
    plain = (
        name
        if name.isascii()
        else "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    )
    runs: list[str] = []
    single = False
    for run in re.findall(r"[^\W\d_]+", plain.casefold()):
        if single and len(run) == 1:
            runs[-1] += run
        else:
            runs.append(run)
        single = len(run) == 1
    return runs


def part_in_name(name: str) -> Literal["good", "bad", ""]:
    """What the words of a name say of the part it shows: "bad" where any word says so ("NG_07", "badPart", "not ok"),
    else "good" where one does ("OK-1", "no_defect", "scratch-free"), else nothing."""
    parts = {_part_in_words(words(name)), _part_in_words(words(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)))}
    return "bad" if "bad" in parts else "good" if "good" in parts else ""


def _part_in_words(name_words: list[str]) -> Literal["good", "bad", ""]:
    good = False
    for position, word in enumerate(name_words):
        negated = position > 0 and name_words[position - 1] in _NOT
        freed = position + 1 < len(name_words) and name_words[position + 1] in _FREE
        if (word in BAD_WORDS and not negated and not freed) or (word in GOOD_WORDS and negated):
            return "bad"
        good = good or word in BAD_WORDS or word in GOOD_WORDS
    return "good" if good else ""


@lru_cache(4096)
def is_good_folder(part: str) -> bool:
    """Whether a folder's whole name says that good parts lie in it ("good", "OK", "i.O.", "no_defect")."""
    return "".join(words(part)) in _GOOD_FOLDERS and not any(c.isdigit() for c in part)


def is_bad_folder(part: str) -> bool:
    """Whether a folder's or archive's whole name says that defective parts lie in it ("scratch", "NG 2");
    "anomaly_detection" does not."""
    name_words = words(part)
    return bool(name_words) and set(name_words) <= BAD_WORDS


@lru_cache(4096)
def is_image_folder(part: str) -> bool:
    """Whether a folder's name says no more than that pictures lie in it ("images")."""
    return folder_key(part) in _IMAGE_FOLDERS


@lru_cache(4096)
def is_mask_folder(part: str) -> bool:
    """Whether a folder's whole name says that masks lie in it ("ground_truth", "gt", "labels", "defect masks",
    "SegmentationClass")."""
    name_words = _mask_words(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", part))
    if any(c.isdigit() for c in part):  # "001_mask" holds the masks of photograph 001
        return False
    strong = _MASK_WORDS.intersection(name_words)
    if not strong and not _WEAK_MASK_WORDS.intersection(name_words):
        return False
    beside = _BESIDE_MASK_WORDS | (_BESIDE_STRONG_MASK_WORDS if strong else frozenset())
    return set(name_words) <= _MASK_WORDS | _WEAK_MASK_WORDS | beside


def is_mask_word(text: str, certain: bool = False) -> bool:
    """Whether a piece of a name, such as "_gt" or "-label-2", says mask and nothing else; "_2_gt" has a number first.

    `certain` leaves out words that may be part of a defect's name ("print_label").
    """
    name_words = _mask_words(text)
    known = _MASK_WORDS if certain else _MASK_WORDS | _WEAK_MASK_WORDS
    return bool(name_words) and set(name_words) <= known and re.match(r"[\W_]*[^\W\d_]", text) is not None


def is_split_folder(part: str) -> bool:
    """Whether a folder's name is a split's: train, test, val ..."""
    return folder_key(part) in ("train", "test", *VALIDATION_FOLDERS)


def is_role_folder(part: str) -> bool:
    """Whether a folder's name says what its photographs are for: a split, good parts or unknown ones."""
    return is_split_folder(part) or is_good_folder(part) or folder_key(part) in UNKNOWN_FOLDERS


def _mask_words(text: str) -> list[str]:
    return re.sub(r"\bground (?=truths?\b)", "ground", " ".join(words(text))).split()

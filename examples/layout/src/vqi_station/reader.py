"""Photographs, and the table that an inspection station exports beside them: inspections.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping

from vqi.dataset.layouts.interface import LayoutReader, Match, Options, Photograph, Polygon, Reading, SourceFiles
from vqi.platform.errors import BadInput

TABLE = "inspections.csv"
COLUMNS = ("file", "serial", "verdict", "defect", "outlines")


class Station(LayoutReader):
    """Reads the export of an inspection station."""

    name = "station"

    def detect(self, files: SourceFiles) -> Match:
        """Whether the table lies at the top and has the station's columns."""
        if TABLE not in files:
            return Match(0.0, f"The source has no {TABLE} at its top, as layout station needs.")
        header = next(csv.reader(files.lines(TABLE)), [])
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            return Match(0.0, f"{TABLE} has no column {', '.join(missing)}, as layout station needs.")
        return Match(1.0, f"it has {TABLE} of an inspection station")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """One photograph for each row. Raises BadInput, with the row, for what cannot be understood."""
        photographs = []
        rows = csv.DictReader(files.lines(TABLE), strict=True)
        try:
            for row in rows:
                photographs.append(_photograph(row, files, f"{TABLE}, line {rows.line_num}"))
        except csv.Error as error:
            raise BadInput(f"{TABLE}, line {rows.line_num}, is not CSV ({error}); export it again.") from error
        listed = {photograph.path for photograph in photographs}
        unlisted = [path for path in files.listing.paths if path not in listed]
        notes = [f"{len(unlisted)} photographs left out: {TABLE} does not list them."] if unlisted else []
        return Reading(tuple(photographs), tuple(notes))


def _photograph(row: Mapping[str, str | None], files: SourceFiles, where: str) -> Photograph:
    values = {column: (row.get(column) or "").strip() for column in COLUMNS}
    try:
        path = files.find(values["file"], beside=TABLE)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error
    if values["verdict"] == "ok":
        # The station has no splits: vqi deals good parts to train and test.
        return Photograph(path, None, "good", "good", group=values["serial"])
    if values["verdict"] == "open":
        return Photograph(path, "test", "unknown", "unknown", group=values["serial"])
    if values["verdict"] != "ng":
        raise BadInput(f"{where}: the verdict is {values['verdict']!r}; it is ok, ng or open.")
    outlines = tuple(_outline(text, where) for text in values["outlines"].split(";") if text.strip())
    return Photograph(path, "test", "defect", values["defect"] or "defect", outlines, group=values["serial"])


def _outline(text: str, where: str) -> Polygon:
    """ "12,30 40,30 40,36" as a polygon."""
    try:
        return Polygon([tuple(map(float, point.split(","))) for point in text.split()])
    except ValueError as error:
        raise BadInput(f"{where}: the outline {text.strip()!r} is not of pairs x,y of pixels.") from error

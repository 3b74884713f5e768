from __future__ import annotations

import pytest

from vqi.platform.errors import BadInput
from vqi.platform.printing import printable
from vqi.steps.running import step


def test_printable_keeps_what_people_can_read() -> None:
    assert printable("Schraube ä 螺丝.png") == "Schraube ä 螺丝.png"
    assert printable("a\x1b[31m\u202e\udcff") == "a\\x1b[31m\\u202e\\udcff"


def test_a_steps_last_sentence_cannot_drive_the_log_of_its_pod(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, step("ingest"):
        raise BadInput("The file a\x1b[31m\r.png is not a photograph.")
    assert ended.value.code == 2
    assert capfd.readouterr().err == "vqi ingest: The file a\\x1b[31m\\r.png is not a photograph.\n"

"""`vqi register`, `models`, `promote`, `rollback`, and the commands that take a version by its address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vqi_pipelines.command import app

RULE = ("--set", "promote.max_latency_ratio=1000")


def run(*arguments: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def test_a_bundle_is_registered_promoted_refused_and_rolled_back(
    registry_uri: str, name: str, variant: Any, tested: Path, tmp_path: Path
) -> None:
    first = variant("first")
    assert (
        f"{name}/1 is registered, with the alias candidate: models:/{name}/1"
        in run("register", first, "--name", name).stdout
    )
    assert (
        f"This bundle is version 1 of {name} already; nothing was registered."
        in run("register", first, "--name", name).stdout
    )
    promoted = run("promote", name, "--data", tested, *RULE).stdout
    assert f"Version 1 of {name} is the champion now." in promoted
    assert "12 photographs of 6 good and 6 defective parts." in promoted

    run("register", variant("blind", factor=1000.0), "--name", name)
    refused = run("promote", name, "--data", tested, *RULE, code=3)
    assert "recall" in refused.stdout
    assert f"{name}/2 is refused, and version 1 stays the champion: recall is 0.0000" in refused.stderr
    record = json.loads(run("promote", name, "--data", tested, *RULE, "--json", code=3).stdout)
    assert (record["format"], record["decision"], record["champion"]) == ("vqi-promotion/1", "refused", 1)

    # Without the rule's relative part it passes, and the champion before it can return.
    easy = ("--set", "promote.min_recall=0", "--set", "promote.max_recall_loss=1")
    run("promote", name, "--data", tested, *RULE, *easy)
    table = run("models", name).stdout.splitlines()
    assert table[0].split()[:2] == ["VERSION", "ALIASES"]
    assert [row.split()[:2] for row in table[1:]] == [["2", "champion"], ["1", "-"]]
    assert f"Version 1 of {name} is the champion again; version 2 was." in run("rollback", name).stdout
    assert f"{name}/1 is the champion already" in run("promote", f"{name}/1", "--data", tested).stdout
    listed = json.loads(run("models", "--json").stdout)
    assert [row["aliases"] for row in listed[name]] == [[], ["champion"]]
    assert any(row.split() == [name, "2", "1", "-"] for row in run("models").stdout.splitlines())


def test_the_catalog_holds_the_rule(
    registry_uri: str, name: str, variant: Any, tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "catalog").mkdir()
    catalog = tmp_path / "catalog" / f"{name}.yaml"
    catalog.write_text(f"data: {{source: {tested}}}\npromote: {{min_auroc: 1.0, min_recall: 1.0}}\n")
    monkeypatch.setenv("VQI_CATALOG", str(catalog.parent))
    run("register", variant("first", factor=1000.0), "--name", name)
    assert "promote.min_recall = 1 is the least" in run("promote", name, code=3).stderr
    assert "promote.min_recal is not a key" in run("promote", name, "--set", "promote.min_recal=0", code=2).stderr
    assert "is the champion now" in run("promote", name, "--set", "promote.min_recall=0").stdout


def test_predict_takes_a_version_by_its_address(
    registry_uri: str, name: str, toy_bundle: Path, tested: Path, tmp_path: Path
) -> None:
    run("register", toy_bundle, "--name", name)
    photographs = tested / "test"
    out = ("--out", tmp_path / "predictions", "--no-pictures")
    assert "12 images: 6 good, 6 defect" in run("predict", f"models:/{name}@candidate", photographs, *out).stdout
    assert "No version of" in run("predict", f"models:/{name}@champion", photographs, *out, code=2).stderr
    assert "write models:/NAME@champion or models:/NAME/3" in run("predict", "models:/", photographs, code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["promote", "a b"], "does not name a version of a registered model"),
        (["promote", "no-such-model"], "'no-such-model' is not a registered model"),
        (["rollback", "no-such-model"], "'no-such-model' is not a registered model"),
        (["models", "no-such-model"], "'no-such-model' is not a registered model"),
        (["register", "no-such-folder"], "is not a bundle"),
        (["serve", "models:/no-such-model@champion"], "'no-such-model' is not a registered model"),
        (["watch", "models:/no-such-model/1", "."], "'no-such-model' is not a registered model"),
    ],
)
def test_what_is_not_known_is_one_sentence_and_exit_code_2(
    registry_uri: str, arguments: list[str], sentence: str
) -> None:
    result = run(*arguments, code=2)
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("named", ["--tracking", "MLFLOW_TRACKING_URI", "tracking.uri"])
def test_a_server_that_is_away_is_called_as_its_address_was_given(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "http://127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address if named == "MLFLOW_TRACKING_URI" else "")
    option = ("--tracking", address) if named == "--tracking" else ()
    form = ("--set", f"tracking.uri={address}") if named == "tracking.uri" else ()
    commands = [("promote", "bolt", "--data", tmp_path, *form)] if form else [("models",), ("rollback", "bolt")]
    for command in commands:
        sentence = run(*command, *option, code=1).stderr
        assert f"see that the server runs and that {named} is right" in " ".join(sentence.split())
        assert ("leave tracking.uri empty" in " ".join(sentence.split())) == bool(form)
    if not form:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://x" if not option else "")
        wrong = run("models", *(("--tracking", "ftp://x") if option else ()), code=2).stderr
        assert f"{named} is 'ftp://x'; it must be sqlite:///FILE" in " ".join(wrong.split())

"""Several bundles, micro-batches, and versions that take over."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from serving_server import running
from toy_bundle import write_toy_bundle
from vqi.deployment.bundle_files import GOLDEN
from vqi.deployment.predictor import Predictor
from vqi.platform.errors import BadInput, GateRefused, RunFailed
from vqi.platform.files import sha256_of


def change(bundle: Path, **values: object) -> None:
    """Another version of the same bundle."""
    sidecar = json.loads((bundle / "bundle.json").read_text())
    sidecar.update(values)
    (bundle / "bundle.json").write_text(json.dumps(sidecar))


def damage_golden(bundle: Path) -> None:
    """Golden photographs that score otherwise than the sidecar says."""
    images = load_file(bundle / GOLDEN)["images"]
    save_file({"images": np.ascontiguousarray(images[:, ::-1] // 2)}, bundle / GOLDEN)
    files = json.loads((bundle / "bundle.json").read_text())["files"]
    files[GOLDEN] = {"sha256": sha256_of(bundle / GOLDEN), "bytes": (bundle / GOLDEN).stat().st_size}
    change(bundle, files=files)


def test_several_bundles_are_asked_by_name(toy_bundle: Path, good: bytes) -> None:
    with running({"left": toy_bundle, "right": toy_bundle}) as server:
        assert server.request("GET", "/v2/models").json() == {"models": ["left", "right"]}
        unnamed = server.request("POST", "/predict", body=good)
        assert (unnamed.status, unnamed.json()["error"]) == (
            404,
            "Several bundles are served (left, right): name one.",
        )
        assert server.request("POST", "/predict?model=right", body=good).json()["model"] == "right"
        assert server.request("POST", "/v2/repository/index").json()[1]["state"] == "READY"


def test_photographs_of_several_requests_share_a_batch(
    toy_bundle: Path, good: bytes, defect: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    predict, begun, release = Predictor.predict_prepared, threading.Event(), threading.Event()

    def counted(self: Predictor, batch: list) -> object:
        sizes.append(len(batch))
        begun.set()
        release.wait(10)
        return predict(self, batch)

    with running({"plates": toy_bundle}) as server, ThreadPoolExecutor(6) as clients:
        monkeypatch.setattr(Predictor, "predict_prepared", counted)
        first = clients.submit(server.request, "POST", "/predict", body=good)
        assert begun.wait(10)
        others = [clients.submit(server.request, "POST", "/predict", body=defect) for _ in range(5)]
        while "vqi_queue_photographs 6.0" not in server.request("GET", "/metrics").data.decode():
            pass
        while len(server.request("POST", "/predict", body=b"x").data) == 0:
            pass
        release.set()
        decisions = [one.result().json()["predictions"][0]["decision"] for one in (first, *others)]
    assert decisions == ["good", *["defect"] * 5]
    assert sizes[0] == 1
    assert sum(sizes) == 6
    assert max(sizes) > 1


def test_a_new_version_takes_over_and_a_wrong_one_does_not(toy_bundle: Path, good: bytes, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(toy_bundle, bundle)
    with running({"plates": bundle}) as server:
        before = server.request("GET", "/v2/models/plates").json()["versions"]
        assert server.request("POST", "/v2/repository/models/plates/load").json()["changed"] is False
        change(bundle, seed=1)
        answer = server.request("POST", "/v2/repository/models/plates/load").json()
        assert answer["changed"] is True
        assert [answer["version"]] != before
        damage_golden(bundle)
        refused = server.request("POST", "/v2/repository/models/plates/load")
        assert refused.status == 400
        assert "does not score its golden photographs as it did when it was exported" in refused.json()["error"]
        assert server.request("POST", "/predict", body=good).json()["version"] == answer["version"]
        metrics = server.request("GET", "/metrics").data.decode()
    assert 'vqi_reloads_total{model="plates",result="served"} 1.0' in metrics
    assert 'vqi_reloads_total{model="plates",result="refused"} 1.0' in metrics
    assert f'version="{answer["version"]}"' in metrics
    assert f'version="{before[0]}"' not in metrics


def test_no_request_fails_while_versions_change(toy_bundle: Path, good: bytes, tmp_path: Path) -> None:
    bundle, stop = tmp_path / "bundle", threading.Event()
    shutil.copytree(toy_bundle, bundle)

    def ask() -> set[int]:
        statuses = set()
        while not stop.is_set():
            statuses.add(server.request("POST", "/predict", body=good).status)
        return statuses

    with running({"plates": bundle}, reload_seconds=0.05) as server, ThreadPoolExecutor(3) as clients:
        asking = [clients.submit(ask) for _ in range(3)]
        seen = set()
        for seed in (1, 2, 3):
            change(bundle, seed=seed)
            while (version := server.request("GET", "/v2/models/plates").json()["versions"][0]) in seen:
                pass
            seen.add(version)
        stop.set()
        assert set.union(*(one.result() for one in asking)) == {200}


def test_a_bundle_that_does_not_score_as_it_did_is_not_served(tmp_path: Path) -> None:
    write_toy_bundle(tmp_path)
    damage_golden(tmp_path)
    with pytest.raises(GateRefused, match="golden photographs"), running({"plates": tmp_path}):
        pass


def test_a_folder_that_is_no_bundle_and_a_port_that_is_taken(toy_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a bundle"), running({"plates": tmp_path}):
        pass
    with (
        running({"plates": toy_bundle}) as server,
        pytest.raises(RunFailed, match="cannot be listened at"),
        running({"plates": toy_bundle}, port=server.port),
    ):
        pass

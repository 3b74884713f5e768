"""The folder of the features of one build: kept where the build fails, for one process at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from vqi.steps.build_index.features import kept_features


def test_features_stay_until_a_build_ends_well(tmp_path: Path) -> None:
    root = tmp_path / "features"

    def interrupted() -> None:
        with kept_features(root, "key") as folder:
            assert folder == root / "key"
            (folder / "part").write_text("kept")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with kept_features(root, "key") as folder:
        assert folder is not None
        assert (folder / "part").read_text() == "kept"
    assert not root.exists()


def test_two_builds_of_the_same_do_not_share_a_folder(tmp_path: Path) -> None:
    with kept_features(tmp_path, "key") as first, kept_features(tmp_path, "key") as second:
        assert (first, second) == (tmp_path / "key", None)
    with kept_features(None, "key") as folder:
        assert folder is None

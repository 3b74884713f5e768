from __future__ import annotations

from vqi.training.settings import TrainSettings


def test_a_cluster_s_checkpoints_setting_holds_where_none_is_named() -> None:
    assert TrainSettings().kept_at("s3://checkpoints/vqi/", "bolt").checkpoints == "s3://checkpoints/vqi/bolt"
    assert TrainSettings(checkpoints="s3://own").kept_at("s3://checkpoints/vqi", "bolt").checkpoints == "s3://own"
    assert TrainSettings().kept_at("", "bolt") == TrainSettings()

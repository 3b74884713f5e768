"""Where runs are tracked."""

from __future__ import annotations

import warnings

from pydantic import Field

from vqi.platform.settings import Answer, Settings


class ExperimentSettings(Settings):
    """The MLflow experiment that runs stand in."""

    uri: str = Field("", description="MLflow address; empty = MLFLOW_TRACKING_URI, or none")
    experiment: str = Field("vqi", min_length=1, max_length=200, description="MLflow experiment")


with warnings.catch_warnings():
    # pydantic's classes have a `register` that is a class's own, and no setting.
    warnings.simplefilter("ignore")

    class TrackingSettings(ExperimentSettings):
        """The section `tracking`."""

        comparison: str = Field(
            "",
            pattern=r"^([A-Za-z0-9]{1,64}(/[A-Za-z0-9]{1,16})?)?$",
            description="RUN/TRIAL: the MLflow run that this one is a trial of, or what tells a trial in every "
            "comparison; train_all sets it",
        )
        register: Answer = Field(
            "no",
            description="whether export makes the bundle a version of the category's name in MLflow's model registry, "
            "with the alias candidate",
        )

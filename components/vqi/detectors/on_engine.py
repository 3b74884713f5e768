"""A method whose network an engine runs, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vqi.detectors.engine import engine_of
from vqi.detectors.engine_record import EngineRecord
from vqi.detectors.grids import Grid
from vqi.detectors.indexed import Indexed
from vqi.detectors.products import leave_threads_to_openvino


class OnEngine(Indexed):
    """Embeddings by an engine, for the method that stands beside it among the bases of a class."""

    embedding_grid: Grid

    def __init__(
        self, settings: Any, input_size: tuple[int, int], seed: int, folder: Path, record: EngineRecord
    ) -> None:
        """`folder` is the network artefact. Raises ValueError where its engine does not say where embeddings lie."""
        super().__init__(settings, input_size, seed)
        if record.embedding_grid is None:
            raise ValueError(f"{folder}: the engine's record has no grid")
        leave_threads_to_openvino()
        self.engine = engine_of(folder, record, embeds=True)
        self.embedding_grid = record.embedding_grid

    def embedding(self, images: np.ndarray) -> np.ndarray:
        assert self.engine is not None
        return self.engine.embedding(images)

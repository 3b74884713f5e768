"""The bodies of PaddleX 3's serving (paddlex/inference/serving): `logId`, `errorCode`, `errorMsg` and, of what went
well, `result`."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from pydantic import BaseModel

INFER, HEALTH = "/image-anomaly-detection", "/health"
PADDLEX_ROUTES = (INFER, HEALTH)


class InferRequest(BaseModel):
    """`image`: the file in Base64, or its address; `visualize`: whether the answer holds a picture (null: yes)."""

    image: str
    visualize: bool | None = None


class InferResult(BaseModel):
    """`labelMap`: 255 where a pixel is anomalous, else 0, row by row; `size`: height, width; `image`: a JPEG in
    Base64."""

    labelMap: list[int]
    size: tuple[int, int]
    image: str | None = None


class ResultResponse(BaseModel):
    logId: str
    result: InferResult
    errorCode: Literal[0] = 0
    errorMsg: Literal["Success"] = "Success"


class NoResultResponse(BaseModel):
    logId: str
    errorCode: int
    errorMsg: str


def new_log_id() -> str:
    return str(uuid.uuid4())


def paddlex_error(status: int, sentence: str) -> dict[str, Any]:
    """The body of an error: its code is the HTTP status."""
    return NoResultResponse(logId=new_log_id(), errorCode=status, errorMsg=sentence).model_dump()

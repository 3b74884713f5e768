"""`POST /image-anomaly-detection` and `GET /health` as the pipeline server of PaddleX 3 answers them."""

from __future__ import annotations

import asyncio
import base64
import binascii

import numpy as np
from fastapi import APIRouter

from vqi.dataset.images import decode_rgb
from vqi.deployment.predictor import Prediction, Unreadable
from vqi.deployment.serving.drawn import picture_of
from vqi.deployment.serving.paddlex_answers import (
    HEALTH,
    INFER,
    InferRequest,
    InferResult,
    NoResultResponse,
    ResultResponse,
    new_log_id,
)
from vqi.deployment.serving.refusals import Unpredictable
from vqi.deployment.serving.remote_photographs import fetch_photograph, is_address
from vqi.deployment.serving.served_models import ServedModel, ServedModels
from vqi.deployment.serving.settings import ServeSettings


def paddlex_routes(models: ServedModels, settings: ServeSettings) -> APIRouter:
    """The routes; requests name no bundle, so the first that is served answers."""
    routes = APIRouter(tags=["PaddleX"])

    @routes.get(HEALTH, operation_id="checkHealth")
    async def check_health() -> NoResultResponse:
        return NoResultResponse(logId=new_log_id(), errorCode=0, errorMsg="Healthy")

    @routes.post(
        INFER,
        operation_id="infer",
        response_model_exclude_none=True,
    )
    async def detect(request: InferRequest) -> ResultResponse:
        content = await _content(request.image, settings)
        model, results = await models.predict(models.names[0], "", [("image", content)])
        if isinstance(results[0], Unreadable):
            raise Unpredictable(results[0].reason)
        result = await asyncio.to_thread(_result, model, results[0], content, request.visualize is not False)
        return ResultResponse(logId=new_log_id(), result=result)

    return routes


async def _content(image: str, settings: ServeSettings) -> bytes:
    if is_address(image):
        return await asyncio.to_thread(
            fetch_photograph, image, settings.allow_hosts, settings.body_mib << 20, settings.body_seconds
        )
    try:
        # A data URL is what a page has at hand.
        text = image.partition(",")[2] if image.startswith("data:") else image
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unpredictable("image is neither Base64 nor an address.") from error


def _result(model: ServedModel, prediction: Prediction, content: bytes, visualize: bool) -> InferResult:
    sidecar = model.predictor.sidecar
    marked = prediction.mask.astype(np.uint8) * np.uint8(255)
    picture = None
    if visualize:
        drawn = picture_of(prediction, decode_rgb(content, "image", sidecar.decoding), sidecar)
        picture = base64.b64encode(drawn).decode()
    height, width = marked.shape
    return InferResult(labelMap=marked.ravel().tolist(), size=(height, width), image=picture)

"""What the server answers in words of its own: predictions of photographs, and metrics."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from vqi.dataset.images import decode_rgb
from vqi.deployment.prediction_record import BoxRecord
from vqi.deployment.predictor import Prediction, Unreadable
from vqi.deployment.serving.drawn import map_file, picture_of
from vqi.deployment.serving.metrics import Metrics
from vqi.deployment.serving.refusals import Refusal
from vqi.deployment.serving.served_models import ServedModel, ServedModels
from vqi.evaluation.predictions import BundleDecision

MULTIPART = "multipart/form-data"
_PREDICT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
        },
    }
}


class PhotographAnswer(BaseModel):
    """One photograph: `error` where it could not be read; else `decision`, `score` against `threshold`, and the
    `boxes` in its own pixels. `implausible`: why it is not judged; `unaligned`: why it was used as it lies though the
    bundle aligns. `picture` (JPEG) and `map` (float TIFF of its size) are Base64, where they were asked for."""

    image: str
    error: str | None = None
    decision: BundleDecision | None = None
    score: float | None = None
    threshold: float | None = None
    width: int | None = None
    height: int | None = None
    boxes: list[BoxRecord] | None = None
    implausible: str | None = None
    unaligned: str | None = None
    picture: str | None = None
    map: str | None = None


class PredictAnswer(BaseModel):
    """What a bundle says of the photographs of one request, in their order. `error`: where none could be read (status
    422), why the first could not."""

    model: str
    version: str
    error: str | None = None
    predictions: list[PhotographAnswer]


def own_routes(models: ServedModels, metrics: Metrics, most: int) -> APIRouter:
    """`/predict` and `/metrics`; a request holds at most `most` photographs."""
    routes = APIRouter(tags=["vqi"])

    @routes.post(
        "/predict",
        response_model_exclude_none=True,
        openapi_extra=_PREDICT_BODY,
    )
    async def predict(
        request: Request,
        response: Response,
        model: str = Query("", description="name of the bundle; not needed where one is served"),
        picture: bool = Query(False, description="answer the photograph with heatmap, outline and boxes too"),
        map: bool = Query(False, description="answer the anomaly map too"),
    ) -> PredictAnswer:
        """Decide on one photograph (the body is the file) or several (multipart)."""
        files = await _files(request, most)
        served, results = await models.predict(model, "", files)
        answers = await asyncio.gather(
            *(
                asyncio.to_thread(_answer, served, result, content, picture, map)
                for (_, content), result in zip(files, results, strict=True)
            )
        )
        error = answers[0].error if all(answer.error for answer in answers) else None
        if error:
            response.status_code = 422
        return PredictAnswer(model=served.name, version=served.version, error=error, predictions=list(answers))

    @routes.get("/metrics", response_class=Response)
    async def read_metrics() -> Response:
        """Everything that is counted, for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return routes


async def _files(request: Request, most: int) -> list[tuple[str, bytes]]:
    """The files of a request, by name. Raises Refusal where there is none."""
    body = await request.body()
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != MULTIPART:
        if not body:
            raise Refusal("The request has no body; send a photograph.")
        return [("image 1", body)]

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, whole(), max_files=most, max_fields=8)
    # The body is in memory already: no part of it goes to a disk.
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, UnicodeError) as error:
        raise Refusal(f"The multipart body cannot be read: {getattr(error, 'message', None) or error}") from error
    try:
        files = [
            (value.filename or f"image {number}", await value.read())
            for number, (_, value) in enumerate(form.multi_items(), 1)
            if isinstance(value, UploadFile)
        ]
    finally:
        await form.close()
    if not files:
        raise Refusal("The multipart body holds no file.")
    return files


def _answer(
    served: ServedModel, result: Prediction | Unreadable, content: bytes, picture: bool, anomaly_map: bool
) -> PhotographAnswer:
    if isinstance(result, Unreadable):
        return PhotographAnswer(image=result.name, error=result.reason)
    sidecar = served.predictor.sidecar
    height, width = result.map.shape
    drawn = None
    if picture:
        pixels = decode_rgb(content, result.name, sidecar.decoding)
        drawn = picture_of(pixels, result.map, result.boxes, result.level, sidecar)
    return PhotographAnswer(
        image=result.name,
        decision=result.decision,
        score=result.score,
        threshold=sidecar.thresholds.image,
        width=width,
        height=height,
        boxes=[BoxRecord(x1=x1, y1=y1, x2=x2, y2=y2, score=score) for x1, y1, x2, y2, score in result.boxes],
        implausible=result.implausible or None,
        unaligned=result.unaligned or None,
        picture=base64.b64encode(drawn).decode() if drawn else None,
        map=base64.b64encode(map_file(result.map)).decode() if anomaly_map else None,
    )

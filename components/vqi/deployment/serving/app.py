"""The HTTP application: the routes of every protocol, the guard before them, and the errors that reach them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from vqi.deployment.serving.decision_log import DecisionLog
from vqi.deployment.serving.decision_routes import decision_routes, page_routes
from vqi.deployment.serving.docs_routes import docs_routes
from vqi.deployment.serving.guard import Guard, error_body
from vqi.deployment.serving.metrics import Metrics
from vqi.deployment.serving.open_inference import SERVER_VERSION
from vqi.deployment.serving.open_inference_rest import open_inference_routes
from vqi.deployment.serving.own_routes import own_routes
from vqi.deployment.serving.paddlex_answers import NoResultResponse
from vqi.deployment.serving.paddlex_routes import paddlex_routes
from vqi.deployment.serving.refusals import Refusal
from vqi.deployment.serving.served_models import ServedModels
from vqi.deployment.serving.settings import ServeSettings
from vqi.platform.errors import BadInput, VqiError
from vqi.platform.logs import logger

log = logger(__name__)


ERRORS = {
    400: "the request cannot be answered",
    401: "the token is missing or wrong",
    404: "no such bundle or version",
    408: "the request did not arrive in time",
    413: "the request is too large",
    422: "the request is malformed, or a photograph cannot be read",
    500: "the server failed",
    503: "too much is waiting; Retry-After says when to try again",
    504: "the answer was not there in time",
}


class ErrorAnswer(BaseModel):
    """One sentence for whoever asked."""

    error: str


def create_app(
    models: ServedModels, settings: ServeSettings, metrics: Metrics, decisions: DecisionLog, token: str = ""
) -> FastAPI:
    """The application over `models`, which are open. `token`: what a request must carry, "" for nothing."""
    app = FastAPI(title="Visual quality inspection", version=SERVER_VERSION, docs_url=None, redoc_url=None)
    app.include_router(own_routes(models, metrics, settings.photographs), responses=_errors(ErrorAnswer))
    app.include_router(open_inference_routes(models, settings.photographs), responses=_errors(ErrorAnswer))
    app.include_router(paddlex_routes(models, settings), responses=_errors(NoResultResponse))
    app.include_router(decision_routes(decisions), responses=_errors(ErrorAnswer))
    app.include_router(page_routes())
    app.include_router(docs_routes())
    app.add_middleware(Guard, settings=settings, metrics=metrics, token=token)

    @app.exception_handler(Refusal)
    async def refuse(request: Request, error: Refusal) -> JSONResponse:
        return _error(request, error.status, str(error), error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        position = ".".join(str(part) for part in first["loc"])
        return _error(request, 422, f"The request is malformed at {position}: {first['msg']}.")

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> JSONResponse:
        return _error(request, error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(BadInput)
    async def refuse_input(request: Request, error: BadInput) -> JSONResponse:
        return _error(request, 400, str(error))

    @app.exception_handler(VqiError)
    async def fail(request: Request, error: VqiError) -> JSONResponse:
        log.error(f"{request.url.path}: {error}")
        return _error(request, 500, str(error))

    @app.exception_handler(Exception)
    async def fail_unexpectedly(request: Request, error: Exception) -> JSONResponse:
        log.error(f"{request.url.path}: {type(error).__name__}: {error}")
        return _error(request, 500, "The server failed; its log says why.")

    return app


def _errors(body: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The errors of every route, for its description."""
    return {status: {"model": body, "description": text} for status, text in ERRORS.items()}


def _error(request: Request, status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(error_body(request.url.path, status, sentence), status, headers)

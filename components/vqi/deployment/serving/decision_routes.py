"""The page for people at `/`, and what it reads and writes: decisions, their pictures and marks."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel

from vqi.dataset.images import decode_rgb
from vqi.deployment.serving.decision_log import RECENT, DecisionLog, Mark, RecentPhotograph
from vqi.deployment.serving.drawn import picture_of

THUMBNAIL = 320
Number = Annotated[int, Path(ge=1, le=2**62)]
# The page loads nothing from elsewhere and runs nothing but its own file; pictures of data are `blob:`.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class MarkRequest(BaseModel):
    """What a person says of a decision; null takes it back."""

    mark: Mark | None
    note: str = ""


def decision_routes(decisions: DecisionLog) -> APIRouter:
    """What was decided, and what people say of it."""
    routes = APIRouter(prefix="/decisions", tags=["decisions"])

    @routes.get("")
    async def latest(
        limit: int = Query(RECENT, ge=1, le=10_000), after: int = Query(0, ge=0, le=2**62)
    ) -> list[dict[str, Any]]:
        """The newest decisions first."""
        return await asyncio.to_thread(decisions.latest, limit, after)

    @routes.get("/hours")
    async def hours(last: int = Query(24, ge=1, le=720)) -> list[dict[str, Any]]:
        """How many were decided how, by hour."""
        return await asyncio.to_thread(decisions.hours, last)

    @routes.get("/marked.csv", response_class=Response)
    async def marked() -> Response:
        """The marked decisions whose photographs are kept, as a table that `vqi check` and `vqi run` read."""
        return Response(await asyncio.to_thread(decisions.marked_table), media_type="text/csv; charset=utf-8")

    @routes.get("/{number}/picture", response_class=Response)
    async def picture(number: Number, side: int = Query(THUMBNAIL, ge=32, le=2048)) -> Response:
        """The photograph of a recent decision with heatmap, outline and boxes."""
        content = await asyncio.to_thread(_drawn, decisions.recent(number), side)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @routes.post("/{number}/mark")
    async def mark(number: Number, request: MarkRequest) -> dict[str, Any]:
        """Say whether a decision was right."""
        return await asyncio.to_thread(decisions.mark, number, request.mark, request.note)

    return routes


def page_routes() -> APIRouter:
    """The page and its files."""
    routes = APIRouter(include_in_schema=False)
    folder = files("vqi.deployment.serving") / "page"
    contents = {
        name: ((folder / name).read_bytes(), media)
        for name, media in (("page.html", "text/html"), ("page.js", "text/javascript"), ("page.css", "text/css"))
    }

    def answer(name: str) -> Response:
        content, media = contents[name]
        return Response(content, media_type=media, headers=HEADERS)

    @routes.get("/")
    async def page() -> Response:
        return answer("page.html")

    @routes.get("/page/page.js")
    async def script() -> Response:
        return answer("page.js")

    @routes.get("/page/page.css")
    async def style() -> Response:
        return answer("page.css")

    return routes


def _drawn(recent: RecentPhotograph, side: int) -> bytes:
    pixels = decode_rgb(recent.content, recent.name, recent.sidecar.decoding)
    return picture_of(pixels, recent.map, recent.boxes, recent.level, recent.sidecar, side)

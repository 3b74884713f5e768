"""`/docs`: the viewer of the server's OpenAPI description, with nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

# Swagger UI writes styles of its own and holds its pictures in them.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def docs_routes() -> APIRouter:
    """The viewer and its files: Swagger UI as the package fastapi-offline carries it."""
    routes = APIRouter(include_in_schema=False)
    own, viewer = files("vqi.deployment.serving") / "page", files("fastapi_offline") / "static"

    @routes.get("/docs")
    async def page() -> Response:
        return Response((own / "docs.html").read_bytes(), media_type="text/html", headers=HEADERS)

    @routes.get("/docs/docs.js")
    async def start() -> Response:
        return Response((own / "docs.js").read_bytes(), media_type="text/javascript", headers=HEADERS)

    @routes.get("/docs/swagger-ui-bundle.js")
    async def script() -> Response:
        return Response((viewer / "swagger-ui-bundle.js").read_bytes(), media_type="text/javascript", headers=HEADERS)

    @routes.get("/docs/swagger-ui.css")
    async def style() -> Response:
        return Response((viewer / "swagger-ui.css").read_bytes(), media_type="text/css", headers=HEADERS)

    return routes

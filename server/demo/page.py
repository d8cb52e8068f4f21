"""The front-desk page and what it asks the hotel's backend for over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from server.demo.hotel import Hotel

_STATIC: Final = Path(__file__).with_name("static")

PUSHER_JS: Final = _STATIC / "vendor" / "pusher.min.js"
"""The released pusher-js, web build, copied there at set-up; the page does not work without it."""

PERSONAS: Final = ("reception", "housekeeping", "finance")

_FRESH: Final = {"Cache-Control": "no-store"}
_PAGE_HEADERS: Final = _FRESH | {
    # The page needs nothing from elsewhere, and its scripts and styles are files.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _AskedEachTime(StaticFiles):
    """Files that a browser keeps but asks for each time: after an update none is an old one."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def demo_routes(
    hotel: Hotel,
    *,
    key: str,
    mint: Callable[[str], str],
    viewers: Callable[[], list[dict[str, str]]],
) -> list[BaseRoute]:
    """Return the routes below ``/demo``.

    Args:
        hotel: whose state the page starts from.
        key: the app's key, for pusher-js.
        mint: returns a JWT for one of `PERSONAS`.
        viewers: returns who is looking at the hotel now: ``{"name", "role"}`` each.

    """
    html = (_STATIC / "demo.html").read_text(encoding="utf-8").replace("{{ key }}", escape(key))

    async def page(_: Request) -> Response:
        return HTMLResponse(html, headers=_PAGE_HEADERS)

    async def state(request: Request) -> Response:
        payments = request.query_params.get("as") == "finance"
        return JSONResponse(hotel.snapshot(payments=payments), headers=_FRESH)

    async def token(request: Request) -> Response:
        persona = request.query_params.get("as", PERSONAS[0])
        if persona not in PERSONAS:
            error = f"as: expected one of {', '.join(PERSONAS)}"
            return JSONResponse({"error": error}, status_code=400, headers=_FRESH)
        return JSONResponse({"token": mint(persona)}, headers=_FRESH)

    async def who(_: Request) -> Response:
        return JSONResponse(viewers(), headers=_FRESH)

    return [
        Route("/demo", page),
        Route("/demo/state", state),
        Route("/demo/token", token),
        Route("/demo/viewers", who),
        Mount("/demo/static", _AskedEachTime(directory=_STATIC)),
    ]

"""A backend's signed requests to a server, for commands that speak to one."""

from __future__ import annotations

import time
from collections.abc import Mapping

import httpx
import orjson

from auth.apps import App
from auth.request_auth import sign_request
from server.usage import Failed


def signed_post(app: App, url: str, path: str, body: Mapping[str, object]) -> httpx.Response:
    """Post to `/apps/{id}` + ``path`` and return the answer; raises `Failed` unless it is 200."""
    path = f"/apps/{app.id}{path}"
    content = orjson.dumps(body)
    params = sign_request(app, "POST", path, content, time.time())
    return _answered(
        url, httpx.Request("POST", url.rstrip("/") + path, params=params, content=content)
    )


def signed_get(app: App, url: str, path: str, params: Mapping[str, str]) -> httpx.Response:
    """Get `/apps/{id}` + ``path`` and return the answer; raises `Failed` unless it is 200."""
    path = f"/apps/{app.id}{path}"
    signed = sign_request(app, "GET", path, b"", time.time(), params)
    return _answered(url, httpx.Request("GET", url.rstrip("/") + path, params=signed))


def _answered(url: str, request: httpx.Request) -> httpx.Response:
    request.headers["Content-Type"] = "application/json"
    try:
        with httpx.Client() as client:
            answer = client.send(request)
    except httpx.HTTPError as error:
        raise Failed(f"{url}: {error} (is the server running? --url, BELLHOP_URL)") from None
    if answer.status_code != httpx.codes.OK:
        raise Failed(f"{url} answered {answer.status_code}: {answer.text[:1000]}")
    return answer

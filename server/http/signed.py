"""A request that an app has signed: what every endpoint of Pusher's HTTP API begins with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

import orjson
from starlette.types import Receive

from auth.apps import App, AppRegistry
from server.http.answers import Refused

MAX_BODY: Final = 1024 * 1024

_IDEMPOTENCY_KEY: Final = (b"idempotency-key", b"x-idempotency-key")
_PRINTABLE: Final = re.compile(rb"[!-~]+")
MAX_KEY: Final = 128
"""It becomes an event's id."""

Query = list[tuple[str, str]]


@dataclass(slots=True)
class SignedRequest:
    """A request whose signature is good."""

    app: App
    names: tuple[str, ...]
    """What stands in the path for a channel or a user, URL-decoded."""
    query: Query
    body: bytes
    headers: Sequence[tuple[bytes, bytes]]
    """As ASGI has them: names in lower case."""

    def parameter(self, name: str) -> str | None:
        """Return a parameter of the query; the last one where it is repeated."""
        return next((value for key, value in reversed(self.query) if key == name), None)

    def idempotency_key(self, longest: int = MAX_KEY) -> str:
        """Return what the sender knows this very request by; empty: it does not say."""
        key: bytes | None = None
        for name, value in self.headers:
            if name in _IDEMPOTENCY_KEY:
                if key is not None and key != value:
                    raise Refused(400, "Idempotency-Key is given twice, and not alike")
                key = value
        if key is None:
            return ""
        if len(key) > longest or not _PRINTABLE.fullmatch(key):
            reason = f"1 to {longest} printable ASCII characters without spaces"
            raise Refused(400, f"Idempotency-Key has {reason} here")
        return key.decode("ascii")

    def json(self) -> dict[str, object]:
        """Decode the body; refuses what is no JSON object."""
        try:
            decoded = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise Refused(400, "the body is not valid JSON") from None
        if not isinstance(decoded, dict):
            raise Refused(400, "the body is not a JSON object")
        return decoded


class Disconnected(Exception):
    """The client went away before it had sent its request: nobody is there to answer."""


def parsed_query(raw: bytes) -> Query:
    """Decode a query string into its pairs, in order."""
    text = raw.decode(errors="replace")
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True)
    # Nothing is escaped in the query of a trigger, and this takes a quarter of the time.
    pairs = [part.partition("=") for part in text.split("&") if part]
    return [(name, value) for name, _, value in pairs]


def signing_app(apps: AppRegistry, app_id: str | None, query: Query) -> App:
    """Find the app by the id in the path; where there is none, by the key in the query."""
    if app_id is not None:
        app = apps.by_id(app_id)
        if app is None:
            raise Refused(404, "no such app")
    else:
        app = apps.by_key(dict(query).get("auth_key", ""))
        if app is None:
            raise Refused(401, "auth_key is missing or is not the key of an app")
    if not app.enabled:
        raise Refused(403, "the app is disabled")
    return app


async def whole_body(receive: Receive) -> bytes:
    """Read a request's body; more than `MAX_BODY` bytes are refused with 413."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            raise Refused(413, f"the request's body exceeds {MAX_BODY} bytes")
        if not message.get("more_body"):
            return chunk if not chunks else b"".join((*chunks, chunk))
        chunks.append(chunk)

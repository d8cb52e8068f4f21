"""The door: what a handshake says, judged before the first frame. The same for every transport.

Nothing that can be upgraded and told is refused by HTTP: pusher-js would stay away for 15 s and
more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from auth.apps import App, AppRegistry
from auth.errors import AuthError
from auth.origins import OriginPolicy
from auth.principal import Principal
from channels_spec.pusher import PROTOCOL_VERSIONS, CloseCode
from server.protocol.connection import Way
from server.session import Session, Surroundings, Transport

COOKIE: Final = "bellhop_token"
_PATH: Final = re.compile(
    r"(?:/s/(?P<instance>[A-Za-z0-9_-]{8,64}))?(?:/t/(?P<token>[^/]+))?/app/(?P<key>[^/]+)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client's upgrade request says."""

    target: str
    """Path and query, as on the wire."""
    headers: Mapping[str, str]
    """Of ``origin``, ``host``, ``authorization`` and ``cookie``, those that came."""


@dataclass(frozen=True, slots=True)
class Turned:
    """The client is turned away with a close code."""

    code: CloseCode
    reason: str


@dataclass(frozen=True, slots=True)
class Entered:
    """The client may come in: call `open` once frames can be sent."""

    session: Session
    principal: Principal | None
    way: Way

    def open(self) -> None:
        """Greet the client."""
        self.session.open(self.principal, self.way)


class Door:
    """Judges handshakes and makes sessions."""

    def __init__(self, apps: AppRegistry, origins: OriginPolicy, around: Surroundings) -> None:
        self._apps = apps
        self._origins = origins
        self._around = around

    def enter(self, handshake: Handshake, transport: Transport) -> Entered | Turned:
        """Judge a handshake: a session for it, or why not."""
        path, _, query_text = handshake.target.partition("?")
        found = _PATH.fullmatch(path)
        if found is None:
            return Turned(CloseCode.PATH_NOT_FOUND, "the path is not /app/{key}")
        app = self._apps.by_key(unquote(found["key"]))
        query = _query(query_text)
        turned = self._turned(app, query, handshake.headers.get("origin"))
        if turned is not None or app is None:
            return turned or Turned(CloseCode.UNKNOWN_APP, "no app has this key")
        token, way = self._credential(handshake, found["token"], query)
        principal = None
        if token is not None:
            try:
                principal = self._around.verifier.verify(token, self._around.clock())
            except AuthError as error:
                # A stale cookie is nobody's decision: the page may still sign in.
                if way is not Way.COOKIE:
                    return Turned(CloseCode.UNAUTHORIZED, error.reason)
        return Entered(Session(transport, app, self._around), principal, way)

    def _turned(
        self, app: App | None, query: Mapping[str, str], origin: str | None
    ) -> Turned | None:
        if app is None:
            return Turned(CloseCode.UNKNOWN_APP, "no app has this key")
        if not app.enabled:
            return Turned(CloseCode.APP_DISABLED, "the app is disabled")
        protocol = query.get("protocol")
        if not protocol:
            return Turned(
                CloseCode.NO_PROTOCOL, "the query names no protocol; 5, 6 and 7 are spoken"
            )
        if protocol not in map(str, PROTOCOL_VERSIONS):
            return Turned(CloseCode.UNSUPPORTED_PROTOCOL, "protocols 5, 6 and 7 are spoken")
        if not self._origins.allows(origin):
            return Turned(CloseCode.UNAUTHORIZED, "the page's origin is not allowed")
        return None

    def _credential(
        self, handshake: Handshake, in_path: str | None, query: Mapping[str, str]
    ) -> tuple[str | None, Way]:
        """Return the weightiest token that the handshake carries."""
        headers = handshake.headers
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and bearer:
            return bearer.strip(), Way.HEADER
        if in_path is not None:
            return unquote(in_path), Way.PATH
        if query.get("token"):
            return query["token"], Way.QUERY
        if self._origins.trusts_cookie(headers.get("origin"), headers.get("host")):
            return cookie_token(headers.get("cookie")), Way.COOKIE
        return None, Way.NONE


def cookie_token(header: str | None) -> str | None:
    """Return the token in a Cookie header, if there is one."""
    if not header:
        return None
    # Not by http.cookies: it takes nothing at all where one cookie of somebody else's is odd.
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE and value:
            return value.strip('"')
    return None


def _query(text: str) -> dict[str, str]:
    """Parse a query leniently: pusher-js appends ``?protocol=`` to a key that has a query."""
    pairs = (part.partition("=") for part in re.split("[?&]", text) if part)
    query: dict[str, str] = {}
    for name, _, value in pairs:
        query.setdefault(unquote(name), unquote(value))
    return query

"""The door: what a handshake says, judged before the first frame. The same for every transport.

Nothing that can be upgraded and told is refused by HTTP: pusher-js would stay away for 15 s and
more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from auth.apps import App, AppRegistry
from auth.errors import AuthError, UnknownKey
from auth.origins import Origins
from auth.principal import Principal
from channels_spec.pusher import PROTOCOL_VERSIONS, CloseCode
from server.audit import Audit
from server.protocol.way import Way
from server.session import Session
from server.surroundings import Surroundings, Transport
from server.transports.proxies import TrustedProxies
from server.walls import Visit, Walls

COOKIE: Final = "bellhop_token"
_PATH: Final = re.compile(
    r"(?:/s/(?P<instance>[A-Za-z0-9_-]{8,64}))?(?:/t/(?P<token>[^/]+))?/app/(?P<key>[^/]+)",
    re.ASCII,
)
JUDGED: Final = ("origin", "host", "authorization", "cookie", "x-forwarded-for")
"""The headers of a handshake that count."""
_LISTS: Final = {"cookie": "; ", "x-forwarded-for": ","}
"""Headers of which all count, and how they are joined."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client's first request says."""

    target: str
    """Path and query, as on the wire."""
    headers: Mapping[str, str]
    """Of ``origin``, ``host``, ``authorization``, ``cookie`` and ``x-forwarded-for``, those that
    came."""
    peer: str = ""
    """The address of the connection's other end; empty where it has none (a unix socket)."""


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
    visit: Visit
    """What the walls know of it: the transport shows it messages, and tells it of the end."""
    token: str | None = None
    """A token whose key must be fetched before it says who the client is."""

    def open(self) -> None:
        """Greet the client."""
        self.session.open(self.principal, self.way, self.token)


class Door:
    """Judges handshakes and makes sessions."""

    def __init__(
        self,
        apps: AppRegistry,
        origins: Origins,
        around: Surroundings,
        connections: Callable[[str], int],
        *,
        walls: Walls | None = None,
        proxies: TrustedProxies | None = None,
        audit: Audit | None = None,
    ) -> None:
        """Create a door; ``connections`` counts those of an app, on all nodes."""
        self._walls = walls or Walls()
        self._proxies = proxies or TrustedProxies()
        self._audit = audit or Audit()
        self._apps = apps
        self._origins = origins
        self._around = around
        self._connections = connections
        self.draining = False
        """Whether clients are to go to another node."""

    def enter(self, handshake: Handshake, transport: Transport) -> Entered | Turned:
        """Judge a handshake: a session for it, or why not."""
        if self.draining:
            return Turned(CloseCode.OVER_CAPACITY, "the node is draining: come again")
        offered = self._judge(handshake, transport)
        if isinstance(offered, Turned):
            self._note(handshake, offered)
        if (
            isinstance(offered, Turned)
            and offered.code is not CloseCode.OVER_CAPACITY
            and not self._walls.failed(self._address(handshake))
        ):
            return Turned(CloseCode.OVER_CAPACITY, "too many failed attempts from this address")
        return offered

    def _note(self, handshake: Handshake, turned: Turned) -> None:
        found = _PATH.fullmatch(handshake.target.partition("?")[0])
        app = self._apps.by_key(unquote(found["key"])) if found is not None else None
        app_id = app.id if app is not None else ""
        self._audit.refused("connect", turned.code, turned.reason, known=False, app=app_id)

    def _judge(self, handshake: Handshake, transport: Transport) -> Entered | Turned:
        path, _, query_text = handshake.target.partition("?")
        found = _PATH.fullmatch(path)
        if found is None:
            return Turned(CloseCode.PATH_NOT_FOUND, "the path is not /app/{key}")
        app = self._apps.by_key(unquote(found["key"]))
        query = _query(query_text)
        turned = self._turned(app, query, handshake.headers.get("origin"))
        if turned is not None or app is None:
            return turned or Turned(CloseCode.UNKNOWN_APP, "no app has this key")
        token, way = self._credential(app, handshake, found["token"], query)
        principal, waits = None, None
        if token is not None:
            now = self._around.clock()
            try:
                principal = self._around.verifier.verify(token, now)
                if self._around.rules.revocations.curtail(principal, now) is None:
                    raise AuthError("the token was revoked")
            except UnknownKey:
                waits = token
            except AuthError as error:
                # A stale cookie is nobody's decision: the page may still sign in.
                principal = None
                if way is not Way.COOKIE:
                    return Turned(CloseCode.UNAUTHORIZED, error.reason)
        visit = self._walls.visit(app.id, app.limits.max_subscriptions)
        walled = self._walled(handshake, principal, visit)
        if walled is not None:
            return Turned(CloseCode.OVER_CAPACITY, walled)
        session = Session(transport, app, self._around, found["instance"])
        return Entered(session, principal, way, visit, waits)

    def _walled(
        self, handshake: Handshake, principal: Principal | None, visit: Visit
    ) -> str | None:
        """Say why there are too many of these, where there are."""
        if principal is not None:
            # Whoever shares the address, a good token opens.
            return visit.name(principal.sub)
        if self._walls.anonymous(self._address(handshake)):
            return None
        return "too many connections without a token from this address"

    def _address(self, handshake: Handshake) -> str:
        return self._proxies.client(handshake.peer, handshake.headers.get("x-forwarded-for"))

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
        if not self._origins.of(app).allows(origin):
            return Turned(CloseCode.UNAUTHORIZED, "the page's origin is not allowed")
        limit = app.limits.max_connections
        if self._connections(app.id) >= limit:
            return Turned(CloseCode.OVER_CAPACITY, f"the app has its {limit} connections")
        return None

    def _credential(
        self, app: App, handshake: Handshake, in_path: str | None, query: Mapping[str, str]
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
        if self._origins.of(app).trusts_cookie(headers.get("origin"), headers.get("host")):
            return cookie_token(headers.get("cookie")), Way.COOKIE
        return None, Way.NONE


def judged_headers(all_of: Callable[[str], Sequence[str]]) -> dict[str, str]:
    """Return the headers of a `Handshake`; ``all_of`` gives all values of one."""
    headers = {}
    for name in JUDGED:
        values = all_of(name)
        if values:
            headers[name] = _LISTS[name].join(values) if name in _LISTS else values[0]
    return headers


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

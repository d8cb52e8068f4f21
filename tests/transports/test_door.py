from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from auth.apps import App, AppRegistry, Limits
from auth.errors import AuthError, TokenInvalid
from auth.origins import OriginPolicy, Origins
from auth.principal import Principal
from channels_spec.pusher import PROTOCOL_VERSIONS, CloseCode
from server.protocol.rules import Rules
from server.protocol.way import Way
from server.transports.door import Door, Entered, Handshake, Turned, cookie_token
from tests.people import CONTRACT, NOW, staff
from tests.server.around import surroundings
from tests.server.room import Room, Wire

HOST = "desk.example.com"
HERE = {"host": HOST}
PAGE = {**HERE, "origin": f"https://{HOST}"}
OPEN = "/app/key-1?protocol=7"
CONNECTIONS = 7
"""Of each app, on all nodes."""


class Tokens:
    """Knows tokens that are a subject's name and `.ok`; any other is bad."""

    def verify(self, token: str, now: float) -> Principal:
        assert now == NOW
        if not token.endswith(".ok"):
            raise TokenInvalid(f"bad token {token!r}")
        return staff("grand", sub=token.removesuffix(".ok"))

    def verify_later(self, token: str, answer: Callable[[Principal | AuthError], None]) -> None:
        raise AssertionError("every key is known here")


class Line:
    """A client's wire that remembers what was sent."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.closed: tuple[int, str] | None = None

    def encode(self, frame: bytes) -> bytes:
        return frame

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


def door(*origins: str) -> Door:
    """Return a door to apps, one of them disabled and one that is full."""
    apps = [
        App("1", "key-1", "s"),
        App("2", "key 2/ä", "s"),
        App("3", "key-3", "s", enabled=False),
        App("4", "key-4", "s", limits=Limits(max_connections=CONNECTIONS)),
        App("5", "key-5", "s", limits=Limits(max_connections=CONNECTIONS + 1)),
    ]
    registry = AppRegistry(apps)
    around = surroundings(Room().hub, Tokens(), Rules(CONTRACT))
    allowed = Origins(OriginPolicy(origins), registry)
    return Door(registry, allowed, around, connections=lambda _: CONNECTIONS)


def enter(target: str, headers: dict[str, str] | None = None, *origins: str) -> Entered | Turned:
    """Judge a handshake at a door with these allowed origins."""
    return door(*origins).enter(Handshake(target, HERE if headers is None else headers), Line())


def entered(*given: Any) -> tuple[str | None, Way]:
    """Return whom the door knows by which way, of a handshake that may come in."""
    outcome = enter(*given)
    assert isinstance(outcome, Entered), outcome
    return outcome.principal.sub if outcome.principal is not None else None, outcome.way


def turned(*given: Any) -> tuple[int, str]:
    """Return with which code and reason a handshake is turned away."""
    outcome = enter(*given)
    assert isinstance(outcome, Turned), outcome
    return outcome.code, outcome.reason


# --- path, app, protocol -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/app/key-1",
        "/app/key%2D1",
        "/app/key%202%2F%C3%A4",
        "/s/12345678/app/key-1",
        "/s/00000000-0000-0000-0000-000000000000/app/key-1",
        "/s/" + "a" * 64 + "/app/key-1",
    ],
)
def test_door_opens_at_the_apps_path(path: str) -> None:
    """With or without an instance; the key may be escaped. Nobody is known by it."""
    assert entered(path + "?protocol=7") == (None, Way.COOKIE)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/app",
        "/app/",
        "/app//",
        "/app/key-1/",
        "/app/key-1/x",
        "/App/key-1",
        "//app/key-1",
        "/x/app/key-1",
        "/app/key-1\n/x",
        "/s/1234567/app/key-1",
        "/s/" + "a" * 65 + "/app/key-1",
        "/s/1234567ä/app/key-1",
        "/s/12345678/t//app/key-1",
        "/t/a.ok/s/12345678/app/key-1",
        "/t/a/b/app/key-1",
    ],
)
def test_door_turns_away_other_paths(path: str) -> None:
    """The client is told with a code at which it does not come back; not by HTTP."""
    assert turned(path + "?protocol=7") == (
        CloseCode.PATH_NOT_FOUND,
        "the path is not /app/{key}",
    )


@pytest.mark.parametrize("key", ["key-2", "KEY-1", "key-1%0A", "key-1%00", "%FF"])
def test_door_turns_away_an_unknown_app(key: str) -> None:
    """4001, before anything else is looked at."""
    bad = (CloseCode.UNKNOWN_APP, "no app has this key")
    assert turned(f"/t/bad/app/{key}") == bad
    assert turned(f"/app/{key}?protocol=4", {**HERE, "origin": "null"}, "https://x") == bad


def test_door_turns_away_a_disabled_app() -> None:
    """4003, whatever token comes along."""
    assert turned("/t/a.ok/app/key-3?protocol=7") == (
        CloseCode.APP_DISABLED,
        "the app is disabled",
    )


@pytest.mark.parametrize("version", sorted(PROTOCOL_VERSIONS))
@pytest.mark.parametrize(
    "query",
    [
        "protocol={}",
        "protocol={}&client=js&version=8.6.0&flash=false",
        "client=Pysher&version=1.0.7&protocol={}",
        "client=java-client&protocol={}&version=2",
        # A key that has a query of its own: pusher-js appends a second question mark.
        "token=&z=?protocol={}&client=js",
        "%70rotocol={}",
        "&&protocol={}&",
    ],
)
def test_door_speaks_the_protocol_in_any_query(version: int, query: str) -> None:
    """5, 6 and 7, wherever in the query they stand."""
    assert entered(f"/app/key-1?{query.format(version)}")[0] is None


@pytest.mark.parametrize("query", ["", "?", "?protocol", "?protocol=", "?client=js", "?Protocol=7"])
def test_door_turns_away_a_client_without_protocol(query: str) -> None:
    """4008: it has no use in coming back."""
    reason = "the query names no protocol; 5, 6 and 7 are spoken"
    assert turned(f"/app/key-1{query}") == (CloseCode.NO_PROTOCOL, reason)


@pytest.mark.parametrize(
    "version", ["4", "8", "07", "7.0", "-7", "x", "%D9%A7", "%EF%BC%97", "70", "0000000071", "7%0A"]
)
def test_door_turns_away_another_protocol(version: str) -> None:
    """4007, digits of another script and numbers that begin or end like a known one included."""
    assert turned(f"/app/key-1?protocol={version}&protocol=7") == (
        CloseCode.UNSUPPORTED_PROTOCOL,
        "protocols 5, 6 and 7 are spoken",
    )


# --- origin --------------------------------------------------------------------------------------


def test_door_turns_away_an_origin_that_is_not_listed() -> None:
    """4009, whatever token comes along; without an Origin there is no browser."""
    listed = "https://desk.example.com"
    refused = (CloseCode.UNAUTHORIZED, "the page's origin is not allowed")
    for origin in ("https://evil.example", "null", ""):
        headers = {**HERE, "origin": origin, "authorization": "Bearer a.ok"}
        assert turned(OPEN, headers, listed) == refused
    assert entered(OPEN, {**HERE, "origin": listed}, listed)[0] is None
    assert entered(OPEN, HERE, listed)[0] is None


# --- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target, headers, who",
    [
        (OPEN, {"authorization": "Bearer header.ok"}, ("header", Way.HEADER)),
        (OPEN, {"authorization": "bearer   header.ok "}, ("header", Way.HEADER)),
        ("/t/path.ok" + OPEN, {}, ("path", Way.PATH)),
        ("/t/pa%74h.ok" + OPEN, {}, ("path", Way.PATH)),
        ("/s/12345678/t/path.ok" + OPEN, {}, ("path", Way.PATH)),
        (OPEN + "&token=query.ok", {}, ("query", Way.QUERY)),
        ("/app/key-1?token=query.ok&z=?protocol=7", {}, ("query", Way.QUERY)),
        (OPEN, {"cookie": "bellhop_token=cookie.ok"}, ("cookie", Way.COOKIE)),
        (OPEN, {}, (None, Way.COOKIE)),
        (OPEN + "&token=", {}, (None, Way.COOKIE)),
        # Neither is a bearer token.
        (OPEN, {"authorization": "Basic header.ok"}, (None, Way.COOKIE)),
        (OPEN, {"authorization": "Bearer"}, (None, Way.COOKIE)),
        (OPEN, {"authorization": ""}, (None, Way.COOKIE)),
    ],
)
def test_door_knows_who_speaks_by_any_way(
    target: str, headers: dict[str, str], who: tuple[str | None, Way]
) -> None:
    """Each way alone makes its subject known, and says by how much it weighs."""
    assert entered(target, {**HERE, **headers}) == who


def test_door_takes_the_weightiest_way() -> None:
    """Header, path, query, cookie: the first of them counts, and the others are not looked at."""
    target = "/t/path.ok" + OPEN + "&token=query.ok"
    headers = {**HERE, "cookie": "bellhop_token=cookie.ok"}
    bearer = {**headers, "authorization": "Bearer header.ok"}
    assert entered(target, bearer) == ("header", Way.HEADER)
    assert entered(target, headers) == ("path", Way.PATH)
    assert entered(OPEN + "&token=query.ok", headers) == ("query", Way.QUERY)
    assert entered(OPEN, headers) == ("cookie", Way.COOKIE)
    # One that is bad does not let a lighter one speak in its place.
    assert turned("/t/bad" + OPEN, headers) == (CloseCode.UNAUTHORIZED, "bad token 'bad'")


@pytest.mark.parametrize(
    "target, headers, token",
    [
        (OPEN, {"authorization": "Bearer bad"}, "bad"),
        (OPEN, {"authorization": "Bearer  "}, ""),
        ("/t/bad" + OPEN, {}, "bad"),
        ("/t/%00" + OPEN, {}, "\x00"),
        (OPEN + "&token=bad", {}, "bad"),
    ],
)
def test_door_turns_away_a_bad_token(target: str, headers: dict[str, str], token: str) -> None:
    """What was presented explicitly and is bad: 4009, there is no use in retrying it."""
    assert turned(target, {**HERE, **headers}) == (
        CloseCode.UNAUTHORIZED,
        f"bad token {token!r}",
    )


def test_door_ignores_a_bad_cookie() -> None:
    """A stale cookie is nobody's decision: the page may still sign in."""
    headers = {**HERE, "cookie": "bellhop_token=stale"}
    assert entered(OPEN, headers) == (None, Way.COOKIE)


@pytest.mark.parametrize(
    "headers, origins, who",
    [
        (PAGE, (), "cookie"),
        (HERE, (), "cookie"),
        ({**HERE, "origin": "https://evil.example"}, (), None),
        ({**HERE, "origin": "null"}, (), None),
        ({"origin": "https://desk.example.com"}, (), None),
        ({**HERE, "origin": "https://app.example.com"}, ("https://app.example.com",), "cookie"),
        ({**HERE, "origin": "https://evil.example"}, ("*",), None),
    ],
)
def test_door_lets_a_cookie_speak_only_for_pages_that_are_ours(
    headers: dict[str, str], origins: tuple[str, ...], who: str | None
) -> None:
    """The browser adds the cookie to any page's handshake; the Origin says which page it was."""
    seen = entered(OPEN, {**headers, "cookie": "bellhop_token=cookie.ok"}, *origins)
    assert seen == (who, Way.COOKIE if who else Way.NONE)


@pytest.mark.parametrize(
    "header, token",
    [
        (None, None),
        ("", None),
        ("bellhop_token=a.b.c", "a.b.c"),
        ("x=1; bellhop_token=a.b.c; y=2", "a.b.c"),
        ("x=1;bellhop_token=a.b.c;y=2", "a.b.c"),
        ('bellhop_token="a.b.c"', "a.b.c"),
        ("bellhop_token=", None),
        ("bellhop_token", None),
        ("xbellhop_token=a; bellhop_tokenx=b; Bellhop_Token=c", None),
        ("bellhop_token=first; bellhop_token=second", "first"),
        # Other people's cookies, which a strict reader stumbles over.
        ('prefs={"a":1,"b":[2]}; bellhop_token=a.b.c', "a.b.c"),
        ("a b=c; bellhop_token=a.b.c", "a.b.c"),
        ("=; ;;bellhop_token=a.b.c", "a.b.c"),
        ('x="unfinished; bellhop_token=a.b.c', "a.b.c"),
        ("expires=Thu, 01 Jan 1970; bellhop_token=a.b.c", "a.b.c"),
    ],
)
def test_cookie_token_is_found_among_any_other_cookies(
    header: str | None, token: str | None
) -> None:
    """Whatever else stands in the header, ours is found, and nothing that only looks like it."""
    assert cookie_token(header) == token


# --- coming in -----------------------------------------------------------------------------------


def test_entered_greets_the_client() -> None:
    """Once frames can be sent: the session is known to the hub, and the client gets its id."""
    line = Line()
    outcome = door().enter(Handshake("/t/a.ok" + OPEN, HERE), line)
    assert isinstance(outcome, Entered)
    assert line.wire.written == []
    outcome.open()
    frame = json.loads(line.wire.written[0])
    assert frame["event"] == "pusher:connection_established"
    assert json.loads(frame["data"])["socket_id"] == outcome.session.socket_id
    assert outcome.session.principal == staff("grand", sub="a")
    assert line.closed is None


def test_door_turns_away_who_is_one_too_many() -> None:
    """The bound is the app's, on all nodes; 4100, so that the client comes back."""
    assert enter("/app/key-4?protocol=7") == Turned(
        CloseCode.OVER_CAPACITY, f"the app has its {CONNECTIONS} connections"
    )
    assert isinstance(enter("/app/key-5?protocol=7"), Entered)

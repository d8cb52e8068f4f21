"""Whatever is wrong with a request: 4xx and JSON that says why, never a fault of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.harness import Server

EVENTS, BATCH, CHANNELS = "/apps/1/events", "/apps/1/batch_events", "/apps/1/channels"
GOOD = {"name": "e", "channel": "a", "data": "x"}


def changed(**changes: Any) -> dict[str, Any]:
    """Return a good event made worse."""
    return {**GOOD, **changes}


def nested(depth: int) -> bytes:
    """Return an event with data that deep."""
    return b'{"name":"e","channel":"a","data":' + b"[" * depth + b"]" * depth + b"}"


BODIES: dict[str, tuple[str, Any, int]] = {
    "no object": (EVENTS, b"[]", 400),
    "no JSON": (EVENTS, b"{", 400),
    "not UTF-8": (EVENTS, b'{"name":"\xff"}', 400),
    "lone surrogate": (EVENTS, b'{"name":"\\ud800","channel":"a","data":"x"}', 400),
    "NaN": (EVENTS, b'{"name":"e","channel":"a","data":NaN}', 400),
    "byte order mark": (EVENTS, b"\xef\xbb\xbf{}", 400),
    "nothing": (EVENTS, {}, 400),
    "no body": (EVENTS, None, 400),
    "name is null": (EVENTS, changed(name=None), 400),
    "name is a number": (EVENTS, changed(name=1), 400),
    "name is a list": (EVENTS, changed(name=["e"]), 400),
    "name is empty": (EVENTS, changed(name=""), 400),
    "name is too long": (EVENTS, changed(name="e" * 201), 400),
    "name is reserved": (EVENTS, changed(name="pusher_internal:x"), 400),
    "data is null": (EVENTS, changed(data=None), 400),
    "data is too long": (EVENTS, changed(data="é" * 5121), 413),
    "data is too long when encoded": (EVENTS, changed(data={"a": "x" * 10_240}), 413),
    "data is too deep to encode": (EVENTS, nested(300), 422),
    "data is too deep to read": (EVENTS, nested(5000), 400),
    "body is too long": (EVENTS, b" " * (1024 * 1024 + 1), 413),
    "channel is null": (EVENTS, changed(channel=None), 400),
    "channel is an object": (EVENTS, changed(channel={}), 400),
    "channels is a number": (EVENTS, changed(channels=1), 400),
    "channels holds null": (EVENTS, changed(channels=["a", None]), 400),
    "channels holds a list": (EVENTS, changed(channels=[["a"]]), 400),
    "channels is empty": (EVENTS, changed(channels=[]), 400),
    "channels is too long": (EVENTS, changed(channels=[f"a-{n}" for n in range(101)]), 400),
    "channel's name is empty": (EVENTS, changed(channel=""), 400),
    "channel's name is too long": (EVENTS, changed(channel="a" * 201), 400),
    "channel's name has a space": (EVENTS, changed(channel="a b"), 400),
    "channel's name has a brace": (EVENTS, changed(channel="a}b"), 400),
    "channel's name has a colon": (EVENTS, changed(channel="a:b"), 400),
    "channel's name ends in a newline": (EVENTS, changed(channel="a\n"), 400),
    "channel's name is not ASCII": (EVENTS, changed(channel="é"), 400),
    "channel's name is reserved": (EVENTS, changed(channel="#server-to-user-"), 400),
    "socket id is a number": (EVENTS, changed(socket_id=1.2), 400),
    "socket id has another form": (EVENTS, changed(socket_id="1.2:x"), 400),
    "info is a list": (EVENTS, changed(info=["user_count"]), 400),
    "info is unknown": (EVENTS, changed(info="users"), 400),
    "no batch": (BATCH, {}, 400),
    "no body of a batch": (BATCH, None, 400),
    "batch is an object": (BATCH, {"batch": {}}, 400),
    "batch is null": (BATCH, {"batch": None}, 400),
    "batch is a list itself": (BATCH, [GOOD], 400),
    "batch is too long": (BATCH, {"batch": [GOOD] * 11}, 400),
    "batch holds null": (BATCH, {"batch": [None]}, 400),
    "batch holds a list": (BATCH, {"batch": [[GOOD]]}, 400),
    "batch has no channel": (BATCH, {"batch": [{"name": "e", "data": "x"}]}, 400),
    "batch has channels": (BATCH, {"batch": [changed(channels=["a"])]}, 400),
    "old path without name": (f"{CHANNELS}/a/events", b"x", 400),
    "old path without data": (f"{CHANNELS}/a/events?name=e", None, 400),
    "old path not UTF-8": (f"{CHANNELS}/a/events?name=e", b"\xff", 400),
    "old path's channel": (f"{CHANNELS}/a%20b/events?name=e", b"x", 400),
    "old path too long": (f"{CHANNELS}/a/events?name=e", b"x" * 10_241, 413),
    "endless user id": (f"/apps/1/users/{'u' * 1001}/terminate_connections", {}, 400),
    "empty user id": ("/apps/1/users//terminate_connections", {}, 400),
}


@pytest.mark.parametrize("fault", BODIES)
async def test_post_is_refused(plain: Server, fault: str) -> None:
    """The status of the table, and the reason."""
    target, body, status = BODIES[fault]
    path, _, query = target.partition("?")
    params = dict([query.split("=")]) if query else {}
    answer = await plain.api("POST", path, body, params=params)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["error"]
    assert "Bellhop-Sequence" not in answer.headers


READS: dict[str, tuple[str, dict[str, str]]] = {
    "info of all": (CHANNELS, {"info": "colour"}),
    "cache of all": (CHANNELS, {"info": "cache"}),
    "users of all": (CHANNELS, {"info": "user_count"}),
    "info of one": (f"{CHANNELS}/a", {"info": "subscription_count,colour"}),
    "users of a public one": (f"{CHANNELS}/a", {"info": "user_count"}),
    "cache of another": (f"{CHANNELS}/not-cache-a", {"info": "cache"}),
    "name with a space": (f"{CHANNELS}/a%20b", {}),
    "name with a slash": (f"{CHANNELS}/a%2Fb", {}),
    "name with a zero": (f"{CHANNELS}/a%00", {}),
    "name not UTF-8": (f"{CHANNELS}/%FF", {}),
    "name with a broken escape": (f"{CHANNELS}/a%2", {}),
    "name with braces": (f"{CHANNELS}/%7Ba%7D", {}),
    "endless name": (f"{CHANNELS}/{'a' * 201}", {}),
    "no name": (f"{CHANNELS}/", {}),
    "users of no name": (f"{CHANNELS}//users", {}),
    "users of no presence channel": (f"{CHANNELS}/a/users", {}),
    "users of a prefix alone": (f"{CHANNELS}/presence/users", {}),
}


@pytest.mark.parametrize("fault", READS)
async def test_get_is_refused(plain: Server, fault: str) -> None:
    """400, and the reason."""
    path, params = READS[fault]
    answer = await plain.api("GET", path, params=params)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


PATHS = [
    "/apps/1",
    "/apps/1/",
    "/apps/",
    "/apps//events/x",
    "/apps/1/event",
    "/apps/1/events/",
    "/apps/1/events/x",
    "/apps/1/channels/a/members",
    "/apps/1/channels/a/users/x",
    "/apps/1/users/u",
    "/apps/1/users/u/terminate",
    "/users/",
    "/users/u",
    "/users/u/terminate_connections/",
    "/apps%2F1/events",
]


@pytest.mark.parametrize("path", PATHS)
async def test_path_is_refused_when_unknown(plain: Server, path: str) -> None:
    """404, signed or not."""
    for method in ("GET", "POST"):
        answer = await plain.api(method, path, b"" if method == "GET" else {})
        assert answer.status_code == 404
        if not path.startswith("/apps%2F"):
            assert answer.json()["error"]


METHODS = {
    EVENTS: "POST",
    BATCH: "POST",
    CHANNELS: "GET",
    f"{CHANNELS}/a": "GET",
    f"{CHANNELS}/presence-a/users": "GET",
    f"{CHANNELS}/a/events": "POST, GET",
    "/apps/1/connections": "GET",
    "/apps/1/revocations": "POST",
    "/apps/1/users/u/terminate_connections": "POST",
    "/users/u/terminate_connections": "POST",
}


@pytest.mark.parametrize("path", METHODS)
async def test_method_is_refused_when_another(plain: Server, path: str) -> None:
    """405, and `Allow` says which."""
    every = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
    for method in every - set(METHODS[path].split(", ")):
        answer = await plain.api(method, path)
        assert answer.status_code == 405
        assert answer.headers["Allow"] == METHODS[path]
        if method != "HEAD":
            assert method in answer.json()["error"]


@pytest.mark.parametrize("path", METHODS)
async def test_request_is_refused_when_not_signed(plain: Server, path: str) -> None:
    """401 on every endpoint, before anything else is looked at."""
    answer = await plain.api(METHODS[path].split(", ")[0], path, {}, secret="wrong")
    assert answer.status_code == 401
    assert answer.json()["error"].startswith("auth_signature does not match")


async def test_app_is_refused_when_unknown(plain: Server) -> None:
    """404 by id; where the key stands for the app, 401."""
    for path in ("/apps/77/channels", "/apps/%31%31/connections"):
        assert (await plain.api("GET", path)).status_code == 404
    for after in ({"auth_key": "other"}, {"auth_key": None}):
        answer = await plain.api("POST", "/users/u/terminate_connections", {}, after=after)
        assert answer.status_code == 401
        assert "auth_key" in answer.json()["error"]


async def test_faults_leave_the_connection_usable(plain: Server) -> None:
    """A refused request does not disturb the next one on a connection that stays open."""
    body = json.dumps(GOOD)
    answers = [await plain.api("POST", EVENTS, each) for each in (b"{", body.encode(), b"[]")]
    assert [answer.status_code for answer in answers] == [400, 200, 400]

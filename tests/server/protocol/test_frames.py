from __future__ import annotations

import json

import pytest

from channels_spec.pusher import CLOSE_CODES, CloseCode, ErrorCode
from server.protocol import frames


def test_connection_established_has_its_data_as_a_string() -> None:
    """Pysher and Swift read the handshake's data only as a JSON string."""
    frame = json.loads(frames.connection_established("1.2", 30))
    assert frame == {
        "event": "pusher:connection_established",
        "data": '{"socket_id":"1.2","activity_timeout":30}',
    }


@pytest.mark.parametrize("code", [*CLOSE_CODES, *ErrorCode])
def test_error_has_its_data_as_an_object(code: CloseCode | ErrorCode) -> None:
    """Pysher and Swift read an error's data only as an object, with a number for code."""
    assert json.loads(frames.error(code, "why")) == {
        "event": "pusher:error",
        "data": {"code": code.value, "message": "why"},
    }


def test_error_names_its_channel_where_a_client_can_bind_it() -> None:
    """The channel stands beside data, where pusher-js looks for it."""
    assert json.loads(frames.error(ErrorCode.CLIENT_EVENT_REFUSED, "why", "private-x")) == {
        "event": "pusher:error",
        "channel": "private-x",
        "data": {"code": 4301, "message": "why"},
    }


def test_subscription_succeeded_has_data_that_is_always_a_string() -> None:
    """Swift drops the event without a data string; presence data is one too."""
    assert json.loads(frames.subscription_succeeded("grand.rooms")) == {
        "event": "pusher_internal:subscription_succeeded",
        "channel": "grand.rooms",
        "data": "{}",
    }
    roster = {"presence": {"ids": ["1"], "hash": {"1": None}, "count": 1}}
    frame = json.loads(frames.subscription_succeeded("presence-x", roster))
    assert json.loads(frame["data"]) == roster


def test_subscription_error_is_what_bound_callbacks_expect() -> None:
    """The shape that pusher-js raises itself: type, error, status."""
    assert json.loads(frames.subscription_error("grand.rooms", 403, "why")) == {
        "event": "pusher:subscription_error",
        "channel": "grand.rooms",
        "data": {"type": "AuthError", "error": "why", "status": 403},
    }


def test_signin_success_echoes_the_very_string() -> None:
    """User data comes back byte by byte, however it was spelled."""
    said = '{ "id" : "ä", "x":1.0 }'
    frame = json.loads(frames.signin_success(said))
    assert frame["event"] == "pusher:signin_success"
    assert json.loads(frame["data"]) == {"user_data": said}


def test_authenticated_tells_the_end_of_the_token() -> None:
    """In whole seconds, as the claim usually is."""
    frame = json.loads(frames.authenticated(1_700_000_000.9))
    assert frame == {"event": "bellhop:authenticated", "data": '{"exp":1700000000}'}


def test_ping_and_pong_have_data() -> None:
    """Java cannot read a pong without data."""
    assert json.loads(frames.PING) == {"event": "pusher:ping", "data": {}}
    assert json.loads(frames.PONG) == {"event": "pusher:pong", "data": {}}

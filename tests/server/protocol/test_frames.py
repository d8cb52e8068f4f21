from __future__ import annotations

import json

import pytest

from channels_spec.pusher import CLOSE_CODES, CloseCode, ErrorCode
from server.protocol import frames
from server.protocol.presence import Member


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


def test_roster_is_told_as_pusher_js_reads_it() -> None:
    """Ids, hash and count are there, empty ones too, or pusher-js throws."""
    members = (Member("1", b"null"), Member("2", b'{"name":"Zo\xc3\xab"}'))
    frame = json.loads(frames.subscription_succeeded("presence-x", members))
    assert json.loads(frame["data"]) == {
        "presence": {"ids": ["1", "2"], "hash": {"1": None, "2": {"name": "Zoë"}}, "count": 2}
    }
    frame = json.loads(frames.subscription_succeeded("presence-x", ()))
    assert json.loads(frame["data"]) == {"presence": {"ids": [], "hash": {}, "count": 0}}


def test_members_come_and_go_with_a_string_of_data() -> None:
    """Whoever comes is told of with his user_info, whoever goes by his id alone."""
    member = Member("1", b'{"name":"Z"}')
    assert json.loads(frames.member_added("presence-x", member)) == {
        "event": "pusher_internal:member_added",
        "channel": "presence-x",
        "data": '{"user_id":"1","user_info":{"name":"Z"}}',
    }
    assert json.loads(frames.member_removed("presence-x", "1")) == {
        "event": "pusher_internal:member_removed",
        "channel": "presence-x",
        "data": '{"user_id":"1"}',
    }


def test_subscription_count_is_whole_with_its_figure_and_end() -> None:
    """The broker's script writes the figure and the three closing marks behind the beginning."""
    frame = json.loads(frames.subscription_count_beginning("x") + b'12}"}')
    assert frame == {
        "event": "pusher_internal:subscription_count",
        "channel": "x",
        "data": '{"subscription_count":12}',
    }


def test_cache_miss_has_its_data_as_a_string() -> None:
    """Swift drops an event without one."""
    assert json.loads(frames.cache_miss("cache-x")) == {
        "event": "pusher:cache_miss",
        "channel": "cache-x",
        "data": "{}",
    }


def test_client_event_names_its_sender_on_presence_channels_alone() -> None:
    """The user_id stands beside data; elsewhere there is none."""
    frame = {"event": "client-x", "channel": "presence-x", "data": "words"}
    assert json.loads(frames.client_event("client-x", "presence-x", "words", None)) == frame
    assert json.loads(frames.client_event("client-x", "presence-x", "words", "7")) == {
        **frame,
        "user_id": "7",
    }


@pytest.mark.parametrize(
    "online, offline, events",
    [
        (["1"], ["2", "3"], [("online", ["1"]), ("offline", ["2", "3"])]),
        (["1"], [], [("online", ["1"])]),
        ([], ["2"], [("offline", ["2"])]),
    ],
)
def test_watchlist_events_leave_out_what_is_empty(
    online: list[str], offline: list[str], events: list[tuple[str, list[str]]]
) -> None:
    """Each list is one event in a string of data, as pusher-js takes them apart."""
    frame = json.loads(frames.watchlist_events(online, offline))
    assert frame["event"] == "pusher_internal:watchlist_events"
    told = [{"name": name, "user_ids": ids} for name, ids in events]
    assert json.loads(frame["data"]) == {"events": told}


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

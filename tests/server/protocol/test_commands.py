from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_spec.pusher import ErrorCode, Event
from server.protocol.commands import (
    ClientEvent,
    Command,
    Ping,
    Pong,
    Renew,
    Signin,
    Subscribe,
    Unsubscribe,
    parse,
)
from server.protocol.errors import ProtocolError

NAME = "channel must be a name of 1 to 200 characters of A-Z a-z 0-9 _ - = @ , . ;"

COMMANDS: list[tuple[Any, Command]] = [
    ({"event": "pusher:ping", "data": {}}, Ping()),
    ({"event": "pusher:ping", "data": ""}, Ping()),  # Pysher, the moment the socket opens
    ({"event": "pusher:ping"}, Ping()),
    ({"event": "pusher:pong", "data": {}}, Pong()),
    (
        {"event": "pusher:subscribe", "data": {"auth": "", "channel": "grand.rooms"}},
        Subscribe("grand.rooms"),
    ),
    ({"event": "pusher:subscribe", "data": {"channel": "grand.rooms"}}, Subscribe("grand.rooms")),
    (
        {"event": "pusher:subscribe", "data": '{"channel": "grand.rooms"}'},
        Subscribe("grand.rooms"),
    ),
    (
        {
            "event": "pusher:subscribe",
            "data": {"channel": "presence-x", "auth": "k:s", "channel_data": '{"user_id":1}'},
        },
        Subscribe("presence-x", "k:s", '{"user_id":1}'),
    ),
    # A null says no more than absence does, and must not change what the signature covers.
    (
        {"event": "pusher:subscribe", "data": {"channel": "a", "auth": None, "channel_data": None}},
        Subscribe("a"),
    ),
    (
        {"event": "pusher:subscribe", "data": {"channel": "a", "channel_data": ""}},
        Subscribe("a", "", ""),
    ),
    (
        {"event": "pusher:unsubscribe", "data": {"channel": "#server-to-user-1"}},
        Unsubscribe("#server-to-user-1"),
    ),
    (
        {"event": "pusher:signin", "data": {"auth": "k:s", "user_data": '{"id":"1"}'}},
        Signin("k:s", '{"id":"1"}'),
    ),
    ({"event": "pusher:signin", "data": {}}, Signin("", "")),
    ({"event": "bellhop:auth", "data": {"token": "a.b.c"}}, Renew("a.b.c")),
    ({"event": "bellhop:auth", "data": "{}"}, Renew("")),
    (
        {"event": "client-typing", "channel": "private-x", "data": {"a": 1}},
        ClientEvent("client-typing", "private-x", {"a": 1}),
    ),
    (
        {"event": "client-typing", "channel": "private-x", "data": "words"},
        ClientEvent("client-typing", "private-x", "words"),
    ),
    ({"event": "client-x", "channel": "private-x"}, ClientEvent("client-x", "private-x", None)),
]

MALFORMED = [
    (b"", "the message is not valid JSON"),
    (b"{", "the message is not valid JSON"),
    (b"\xff", "the message is not valid JSON"),
    (b'{"event": NaN}', "the message is not valid JSON"),
    (b'{"event": "\\ud800"}', "the message is not valid JSON"),
    (b"[" * 5000, "the message is not valid JSON"),
    (b"[]", "the message is not a JSON object"),
    (b'"pusher:ping"', "the message is not a JSON object"),
    (b"null", "the message is not a JSON object"),
    (b"{}", "event must be a string of 1 to 200 characters"),
    (b'{"event": ""}', "event must be a string of 1 to 200 characters"),
    (b'{"event": 5}', "event must be a string of 1 to 200 characters"),
    (b'{"event": null}', "event must be a string of 1 to 200 characters"),
    (json.dumps({"event": "x" * 201}).encode(), "event must be a string of 1 to 200 characters"),
    (b'{"event": "ping"}', "unknown event 'ping'"),
    (b'{"event": "pusher:ping\\n"}', "unknown event 'pusher:ping\\n'"),
    (b'{"event": "Pusher:ping"}', "unknown event 'Pusher:ping'"),
    (b'{"event": "client"}', "unknown event 'client'"),
    (b'{"event": "pusher:subscribe"}', "pusher:subscribe: data must be an object"),
    (b'{"event": "pusher:subscribe", "data": []}', "pusher:subscribe: data must be an object"),
    (b'{"event": "pusher:subscribe", "data": "5"}', "pusher:subscribe: data must be an object"),
    (
        b'{"event": "pusher:subscribe", "data": "x"}',
        "pusher:subscribe: data is a string that is not JSON",
    ),
    (b'{"event": "pusher:subscribe", "data": {}}', f"pusher:subscribe: {NAME}"),
    (
        b'{"event": "pusher:subscribe", "data": {"channel": ""}}',
        f"pusher:subscribe: {NAME}, not ''",
    ),
    (b'{"event": "pusher:subscribe", "data": {"channel": 5}}', f"pusher:subscribe: {NAME}, not 5"),
    (
        b'{"event": "pusher:unsubscribe", "data": {"channel": false}}',
        f"pusher:unsubscribe: {NAME}, not false",
    ),
    (
        b'{"event": "pusher:subscribe", "data": {"channel": ["a"]}}',
        f"pusher:subscribe: {NAME}, not a list",
    ),
    (
        b'{"event": "bellhop:filter", "data": {"channel": {"a": 1}}}',
        f"bellhop:filter: {NAME}, not an object",
    ),
    (
        json.dumps({"event": "pusher:subscribe", "data": {"channel": "x" * 513}}).encode(),
        f"pusher:subscribe: {NAME}, not '{'x' * 60}…'",
    ),
    (b'{"event": "pusher:nonsense", "channel": "a"}', "unknown event 'pusher:nonsense'"),
    (b'{"event": "pusher_internal:x", "channel": "a"}', "unknown event 'pusher_internal:x'"),
    (b'{"event": "bellhop:x", "channel": "a"}', "unknown event 'bellhop:x'"),
    (b'{"event": "x", "channel": 5}', "unknown event 'x'"),
    (
        b'{"event": "pusher:subscribe", "data": {"channel": "a", "auth": 5}}',
        "pusher:subscribe: auth must be a string",
    ),
    (
        b'{"event": "pusher:subscribe", "data": {"channel": "a", "channel_data": {}}}',
        "pusher:subscribe: channel_data must be a string",
    ),
    (b'{"event": "pusher:unsubscribe", "data": {}}', f"pusher:unsubscribe: {NAME}"),
    (
        b'{"event": "pusher:signin", "data": {"user_data": {}}}',
        "pusher:signin: user_data must be a string",
    ),
    (b'{"event": "bellhop:auth", "data": {"token": 5}}', "bellhop:auth: token must be a string"),
]

NAMED = [
    # pusher-js hands these to the channel's own bindings, whatever its name is.
    *(
        (
            {"event": event, "data": {"channel": channel, "epoch": "e", "sequence": 1}},
            f"{event}: {NAME}",
            ErrorCode.MALFORMED_MESSAGE,
            channel,
        )
        for event in ("pusher:subscribe", "pusher:unsubscribe", "bellhop:filter", "bellhop:resume")
        for channel in ("a\n", "a b", "x" * 201, "x" * 512, "#server-to-user-", "#é")
    ),
    # Client events that break a rule.
    ({"event": "client-x"}, f"client-x: {NAME}", ErrorCode.CLIENT_EVENT_REFUSED, None),
    (
        {"event": "client-x", "channel": 7},
        f"client-x: {NAME}, not 7",
        ErrorCode.CLIENT_EVENT_REFUSED,
        None,
    ),
    (
        {"event": "client-x", "channel": "a b"},
        f"client-x: {NAME}",
        ErrorCode.CLIENT_EVENT_REFUSED,
        "a b",
    ),
    (
        {"event": "client-" + "x" * 194, "channel": "private-k"},
        "event must be a string of 1 to 200 characters",
        ErrorCode.CLIENT_EVENT_REFUSED,
        "private-k",
    ),
    (
        {"event": "client-" + "x" * 194, "channel": "x" * 513},
        "event must be a string of 1 to 200 characters",
        ErrorCode.CLIENT_EVENT_REFUSED,
        None,
    ),
    (
        {"event": "clientx", "channel": "private-k"},
        "unknown event 'clientx': a client event's name begins with client-",
        ErrorCode.CLIENT_EVENT_REFUSED,
        "private-k",
    ),
    (
        {"event": "x" * 201, "channel": "private-k"},
        "event must be a string of 1 to 200 characters",
        ErrorCode.CLIENT_EVENT_REFUSED,
        "private-k",
    ),
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(["channel", "auth", "channel_data", "user_data", "token"])
FRAMES = st.fixed_dictionaries(
    {"event": st.sampled_from([*Event, "client-x", "x"]) | JSON},
    optional={"data": st.dictionaries(FIELDS, JSON) | JSON, "channel": JSON},
)


@pytest.mark.parametrize("message, command", COMMANDS)
def test_parse_reads_what_clients_send(message: Any, command: Command) -> None:
    """Each command is read in every spelling that a real client uses."""
    assert parse(json.dumps(message).encode()) == command


@pytest.mark.parametrize("text, reason", MALFORMED)
def test_parse_refuses_anything_else_saying_why(text: bytes, reason: str) -> None:
    """The peer is told what was wrong, with the code of a message that cannot be read."""
    with pytest.raises(ProtocolError) as caught:
        parse(text)
    assert (caught.value.reason, caught.value.code, caught.value.channel) == (
        reason,
        ErrorCode.MALFORMED_MESSAGE,
        None,
    )


@pytest.mark.parametrize("message, reason, code, channel", NAMED)
def test_parse_names_the_channel_that_an_error_is_of(
    message: Any, reason: str, code: ErrorCode, channel: str | None
) -> None:
    """So that whoever has bound to the channel learns of it; no more of it than is bounded."""
    with pytest.raises(ProtocolError) as caught:
        parse(json.dumps(message).encode())
    assert (caught.value.reason, caught.value.code, caught.value.channel) == (reason, code, channel)


@given(st.binary(max_size=200) | FRAMES.map(lambda frame: json.dumps(frame).encode()))
def test_parse_raises_nothing_but_protocol_error(text: bytes) -> None:
    """Whatever a peer sends, it is a command or the peer's fault."""
    with contextlib.suppress(ProtocolError):
        assert isinstance(parse(text), Command)

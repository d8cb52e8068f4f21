from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_spec.pusher import (
    CHANNEL_NAME,
    CLIENT_EVENT_PREFIX,
    CLOSE_CODES,
    MAX_CHANNELS_PER_TRIGGER,
    MAX_EVENT_DATA,
    MAX_EVENT_NAME,
    PROTOCOL_VERSIONS,
    RESERVED_EVENT_PREFIXES,
    SERVER_TO_USER_PREFIX,
    SOCKET_ID,
    SUBPROTOCOL,
    ChannelKind,
    CloseCode,
    ErrorCode,
    Event,
    Reconnect,
    is_channel_name,
    kind_of,
)

ALLOWED = string.ascii_letters + string.digits + "_-=@,.;"

KINDS = [
    ("hotel-killarney.rooms", ChannelKind.PUBLIC),
    ("private-hotel-killarney.rooms", ChannelKind.PRIVATE),
    ("presence-hotel-killarney.front-desk", ChannelKind.PRESENCE),
    ("private-encrypted-vault", ChannelKind.ENCRYPTED),
    ("#server-to-user-12", ChannelKind.SERVER_TO_USER),
    ("cache-menu", ChannelKind.PUBLIC),
    ("private-cache-menu", ChannelKind.PRIVATE),
    ("presence-cache-menu", ChannelKind.PRESENCE),
    ("private-encrypted-cache-menu", ChannelKind.ENCRYPTED),
    # A prefix counts at the beginning alone, whole, and in this very spelling.
    ("hotel-private-dining", ChannelKind.PUBLIC),
    ("hotel-presence-x", ChannelKind.PUBLIC),
    ("private", ChannelKind.PUBLIC),
    ("privateer-x", ChannelKind.PUBLIC),
    ("Private-x", ChannelKind.PUBLIC),
    ("private-encrypted", ChannelKind.PRIVATE),
]


def pusher_js_after(code: int) -> Reconnect:
    """Say what an unmodified pusher-js does after a close code (`protocol.ts` getCloseAction)."""
    if code < 4000:
        # Those around 1003 cost a backoff, which is one second too.
        return Reconnect.AFTER_ONE_SECOND
    if code < 4100:
        assert code != 4000, "4000 switches a client to TLS for good"
        return Reconnect.NEVER
    if code < 4200:
        return Reconnect.AFTER_ONE_SECOND
    return Reconnect.AT_ONCE if code < 4300 else Reconnect.NEVER


@pytest.mark.parametrize("code", CloseCode)
def test_close_code_has_a_row_that_says_what_pusher_js_does(code: CloseCode) -> None:
    """Every code that ends a connection is in the table, with the client's true reaction."""
    assert CLOSE_CODES[code].reconnect is pusher_js_after(code)
    assert CLOSE_CODES[code].meaning


def test_close_codes_are_those_of_the_interface() -> None:
    """Each of our own codes has the number that clients were told, and no code has two rows."""
    assert set(CLOSE_CODES) == set(CloseCode)
    assert {code.name: code.value for code in CloseCode if code >= 4000} == {
        "UNKNOWN_APP": 4001,
        "APP_DISABLED": 4003,
        "PATH_NOT_FOUND": 4005,
        "UNSUPPORTED_PROTOCOL": 4007,
        "NO_PROTOCOL": 4008,
        "UNAUTHORIZED": 4009,
        "OVER_CAPACITY": 4100,
        "TOKEN_EXPIRED": 4101,
        "AUTH_TIMEOUT": 4102,
        "DRAINING": 4200,
        "NO_PONG": 4201,
    }


@pytest.mark.parametrize("code", ErrorCode)
def test_error_code_leaves_the_connection_open(code: ErrorCode) -> None:
    """Codes of errors that do not close are those at which no client closes: 4300 and up."""
    assert 4300 <= code < 4400
    assert int(code) not in {int(closing) for closing in CloseCode}


@pytest.mark.parametrize("name, kind", KINDS)
def test_kind_is_decided_by_the_prefix_alone(name: str, kind: ChannelKind) -> None:
    """A channel's kind is that of its longest prefix, as pusher-js decides it."""
    assert is_channel_name(name)
    assert kind_of(name) is kind


def test_kind_is_signed_where_a_subscribe_needs_a_signature() -> None:
    """Private, presence and encrypted channels are signed; the others never are."""
    assert {kind for kind in ChannelKind if kind.signed} == {
        ChannelKind.PRIVATE,
        ChannelKind.PRESENCE,
        ChannelKind.ENCRYPTED,
    }


@given(st.text(alphabet=ALLOWED, min_size=1, max_size=200))
def test_channel_name_is_good_when_of_the_allowed_characters(name: str) -> None:
    """Any 1 to 200 of Pusher's characters are a channel name."""
    assert is_channel_name(name)


@given(
    st.text(alphabet=ALLOWED, max_size=10),
    st.characters().filter(lambda character: character not in ALLOWED),
    st.text(alphabet=ALLOWED, max_size=10),
)
def test_channel_name_is_bad_when_any_character_is_not_allowed(
    before: str, bad: str, after: str
) -> None:
    """One other character, wherever it stands, makes a name bad; `#` has one meaning only."""
    assert not is_channel_name(before + bad + after)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 201,
        "x\n",
        "\nx",
        "x ",
        "rooms:1",
        "ro/oms",
        "zimmer-ä",
        "room-٣",  # a digit, but not an ASCII one
        "#",
        "#x",
        "#server-to-user",
        SERVER_TO_USER_PREFIX,  # whose would it be?
        SERVER_TO_USER_PREFIX + "x\n",
        "##server-to-user-x",
    ],
)
def test_channel_name_is_bad(name: str) -> None:
    """Names that differ from good ones by a newline, a length or a prefix are not names."""
    assert not is_channel_name(name)


def test_channel_name_may_be_a_users_own() -> None:
    """`#server-to-user-ID` is the one name with a `#`, and what Pusher's length allows."""
    assert is_channel_name(SERVER_TO_USER_PREFIX + "staff-12")
    assert CHANNEL_NAME.fullmatch("#" + "x" * 200)


@pytest.mark.parametrize("socket_id", ["1.2", "0.0", "12345678901234567890.1", "0001.0"])
def test_socket_id_is_two_numbers(socket_id: str) -> None:
    """A socket id is digits, a dot and digits."""
    assert SOCKET_ID.fullmatch(socket_id)


@pytest.mark.parametrize(
    "socket_id",
    ["", "1", "1.", ".1", "1.2.3", "1.2\n", " 1.2", "1,2", "-1.2", "١.٢", "1" * 21 + ".1"],
)
def test_socket_id_is_bad(socket_id: str) -> None:
    """Nothing else is, be it digits of another script or a newline behind."""
    assert not SOCKET_ID.fullmatch(socket_id)


@pytest.mark.parametrize("event", Event)
def test_event_name_is_of_the_protocol_or_our_own(event: Event) -> None:
    """No name of ours stands in the way of a backend's events."""
    assert event.startswith((*RESERVED_EVENT_PREFIXES, "bellhop:"))
    assert re.fullmatch(r"[a-z_]+(:[a-z_]+){1,2}", event)


def test_limits_are_those_that_pushers_libraries_keep() -> None:
    """A backend's own library checks these before it sends."""
    assert (MAX_EVENT_NAME, MAX_EVENT_DATA, MAX_CHANNELS_PER_TRIGGER) == (200, 10_240, 100)
    assert sorted(PROTOCOL_VERSIONS) == [5, 6, 7]
    assert SUBPROTOCOL == "pusher-channels-protocol-7"
    assert CLIENT_EVENT_PREFIX == "client-"
    assert RESERVED_EVENT_PREFIXES == ("pusher:", "pusher_internal:")

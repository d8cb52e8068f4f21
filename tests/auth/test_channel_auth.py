import json

import pusher
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from auth.apps import App
from auth.channel_auth import ChannelData, parse_channel_data, sign_channel, verify_channel
from auth.errors import AuthError, SignatureInvalid

APP = App("3", "278d425bdf160c739803", "7ad3773142a6692b25b8")
OTHER = App("4", "278d425bdf160c739803", "another-secret")
PRESENCE_DATA = '{"user_id":10,"user_info":{"name":"Mr. Channels"}}'

channels = st.from_regex(r"[-a-zA-Z0-9_=@,.;]{1,40}", fullmatch=True)
socket_ids = st.from_regex(r"[0-9]{1,10}\.[0-9]{1,10}", fullmatch=True)
channel_data = st.none() | st.text(max_size=40)


@pytest.mark.parametrize(
    "channel, data, signature",
    [
        (
            "private-foobar",
            None,
            "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4",
        ),
        (
            "presence-foobar",
            PRESENCE_DATA,
            "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
        ),
        (
            "presence-foobar",
            '{"user_id":10,"user_info":{"name":"Mr. Pusher"}}',
            "afaed3695da2ffd16931f457e338e6c9f2921fa133ce7dac49f529792be6304c",
        ),
    ],
)
def test_channel_signature_agrees_with_pushers_documentation(
    channel: str, data: str | None, signature: str
) -> None:
    """The vectors of the documentation, today's and an earlier one's, are made and accepted."""
    auth = f"278d425bdf160c739803:{signature}"
    assert sign_channel(APP, "1234.1234", channel, data) == auth
    verify_channel(APP, "1234.1234", channel, auth, data)


@pytest.mark.parametrize(
    "channel, custom",
    [
        ("private-guest-booking.7", None),
        ("presence-grand-hotel.reception", {"user_id": "12", "user_info": {"name": "Zoë"}}),
        ("private-grand-hotel.rooms", {"user_id": 12}),
    ],
)
def test_channel_signature_agrees_with_the_released_library(
    channel: str, custom: dict[str, object] | None
) -> None:
    """What a backend signs with Pusher's own library is accepted, and is what we would sign."""
    client = pusher.Pusher(app_id=APP.id, key=APP.key, secret=APP.secret)
    answer = client.authenticate(channel, "12.34", custom)
    data = answer.get("channel_data")
    verify_channel(APP, "12.34", channel, answer["auth"], data)
    assert sign_channel(APP, "12.34", channel, data) == answer["auth"]


@given(socket_id=socket_ids, channel=channels, data=channel_data)
def test_channel_signature_is_accepted_by_its_own_app_only(
    socket_id: str, channel: str, data: str | None
) -> None:
    """A signature is good for the app that made it, and for no other of the same key."""
    auth = sign_channel(APP, socket_id, channel, data)
    verify_channel(APP, socket_id, channel, auth, data)
    with pytest.raises(SignatureInvalid):
        verify_channel(OTHER, socket_id, channel, auth, data)


@given(
    signed=st.tuples(socket_ids, channels, channel_data),
    presented=st.tuples(socket_ids, channels, channel_data),
)
def test_channel_signature_admits_to_nothing_else(
    signed: tuple[str, str, str | None], presented: tuple[str, str, str | None]
) -> None:
    """Another socket, channel or channel_data needs another signature."""
    assume(signed != presented)
    auth = sign_channel(APP, *signed)
    socket_id, channel, data = presented
    with pytest.raises(SignatureInvalid):
        verify_channel(APP, socket_id, channel, auth, data)


def test_channel_data_is_always_covered() -> None:
    """Data cannot be added to a signature made without, nor left out of one made with it."""
    bare = sign_channel(APP, "1.2", "private-x")
    full = sign_channel(APP, "1.2", "private-x", "{}")
    for auth, data in [(bare, "{}"), (bare, ""), (full, None), (full, "{ }")]:
        with pytest.raises(SignatureInvalid, match="auth signature does not match"):
            verify_channel(APP, "1.2", "private-x", auth, data)


@pytest.mark.parametrize(
    "socket_id, channel, reason",
    [
        ("1.2", ':user::{"id":"admin"}', "a channel name cannot contain a colon"),
        ("1.2", "private-x:y", "a channel name cannot contain a colon"),
        ("1.2:presence-x", "private-y", "socket_id must be two numbers joined by a dot"),
        ("1.2::user", "private-y", "socket_id must be two numbers joined by a dot"),
    ],
)
def test_channel_signature_is_never_one_for_something_else(
    socket_id: str, channel: str, reason: str
) -> None:
    """No choice of names makes us sign, or accept, the message of another kind of authorization."""
    with pytest.raises(SignatureInvalid) as caught:
        sign_channel(APP, socket_id, channel)
    assert caught.value.reason == reason
    with pytest.raises(SignatureInvalid) as caught:
        verify_channel(APP, socket_id, channel, f"{APP.key}:", None)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "text, expected",
    [
        (PRESENCE_DATA, ChannelData("10", {"name": "Mr. Channels"}, None)),
        ('{"user_id":"a"}', ChannelData("a", None, None)),
        ('{"user_id":"a","user_info":null,"bellhop":null}', ChannelData("a", None, None)),
        ('{"user_id":"a","user_info":[1]}', ChannelData("a", [1], None)),
        ('{"user_id":"a","bellhop":{"exp":1}}', ChannelData("a", None, {"exp": 1})),
    ],
)
def test_channel_data_is_read(text: str, expected: ChannelData) -> None:
    """The id becomes text; user_info is anything; bellhop is an object or absent."""
    assert parse_channel_data(text) == expected


@pytest.mark.parametrize(
    "text, reason",
    [
        ("not json", "channel_data is not JSON"),
        ("[]", "channel_data must be an object"),
        ("{}", "user_id in channel_data must be a string or a whole number"),
        ('{"user_id":null}', "user_id in channel_data must be a string or a whole number"),
        ('{"user_id":true}', "user_id in channel_data must be a string or a whole number"),
        ('{"user_id":1.5}', "user_id in channel_data must be a string or a whole number"),
        ('{"user_id":""}', "user_id in channel_data must not be empty"),
        ('{"user_id":"a\\nb"}', "user_id in channel_data contains a character that is not allowed"),
        (
            json.dumps({"user_id": "x" * 129}),
            "user_id in channel_data is longer than 128 characters",
        ),
        ('{"user_id":"a","bellhop":[]}', "bellhop in channel_data must be an object"),
        (" " * 65_537, "channel_data is longer than 65536 characters"),
    ],
    ids=range(11),
)
def test_channel_data_is_refused(text: str, reason: str) -> None:
    """Every refusal says what is wrong with the data."""
    with pytest.raises(AuthError) as caught:
        parse_channel_data(text)
    assert caught.value.reason == reason

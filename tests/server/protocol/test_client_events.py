"""Clients send events to each other: by which rules, and how many."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
import yaml

from auth.apps import App, Limits
from channels_spec.document import Document
from channels_spec.pusher import MAX_EVENT_DATA
from channels_spec.reading import HOTEL_CONTRACT, contract_of
from server.protocol.effects import Relay
from server.protocol.rules import Rules
from tests.people import APP, staff
from tests.server.protocol.talk import PUSHER, Talk

PRIVATE: Final = "private-x"
DESK: Final = "private-grand.rooms"


def allowing() -> Rules:
    """Return rules by which the staff of a hotel may send each other events about its rooms."""
    document: Any = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    document["channels"]["rooms"]["x-bellhop-client-events"] = True
    return Rules(contract_of(Document(HOTEL_CONTRACT, document, None)), serves_unlisted=True)


def talking(*channels: str, app: App = APP, rules: Rules = PUSHER) -> Talk:
    """Return a conversation with somebody subscribed to channels by signature."""
    talk = Talk(rules, app=app)
    talk.open(staff("grand"))
    for channel in channels:
        signed = channel.startswith(("private-", "presence-"))
        data = {"user_id": 7} if channel.startswith("presence-") else None
        if signed:
            talk.subscribe_signed(channel, data)
        else:
            talk.subscribe(channel)
        talk.arrive(channel)
    return talk


def send(talk: Talk, channel: str = PRIVATE, data: Any = None, event: str = "client-x") -> Any:
    """Send one client event and return the only effect."""
    (effect,) = talk.say(event, {} if data is None else data, channel=channel)
    return effect


def error(reason: str, channel: str = PRIVATE) -> dict[str, Any]:
    """Return the error that names its channel."""
    return {
        "event": "pusher:error",
        "channel": channel,
        "data": {"code": 4301, "message": reason},
    }


@pytest.mark.parametrize(
    "data, text",
    [
        ("words", "words"),
        ({"a": [1, "é"]}, '{"a":[1,"é"]}'),
        ([], "[]"),
        (5, "5"),
        (False, "false"),
    ],
)
def test_client_event_is_relayed_with_its_data_as_a_string(data: Any, text: str) -> None:
    """A string stays as it is; anything else becomes one, as Swift needs it."""
    assert send(talking(PRIVATE), data=data) == Relay(PRIVATE, "client-x", text, None)


def test_client_event_without_data_is_relayed() -> None:
    """Absent is null."""
    talk = talking(PRIVATE)
    text = b'{"event":"client-x","channel":"private-x"}'
    assert talk.connection.receive(text, talk.now) == [Relay(PRIVATE, "client-x", "null", None)]


def test_client_event_on_presence_names_its_member() -> None:
    """Whom the subscription names, not what the payload claims."""
    talk = talking("presence-x")
    text = '{"user_id":"boss"}'
    assert send(talk, "presence-x", {"user_id": "boss"}) == Relay(
        "presence-x", "client-x", text, "7"
    )


def test_client_event_is_refused_when_the_app_allows_none() -> None:
    """The switch is the app's."""
    talk = talking(PRIVATE, app=replace(APP, client_events=False))
    assert send(talk) == error("client events are not enabled for this app")


@pytest.mark.parametrize(
    "channel", ["x", "cache-x", "grand.rooms", "private-encrypted-x", "private-encrypted-cache-x"]
)
def test_client_event_is_refused_on_other_kinds(channel: str) -> None:
    """Neither public channels nor encrypted ones carry any, whoever is subscribed."""
    assert send(talking(channel), channel) == error(
        "client events need a private- or presence- channel", channel
    )


def test_client_event_on_ones_own_user_channel_is_refused() -> None:
    """It is the backend's way to the user, and nobody else's."""
    talk = Talk(PUSHER)
    talk.open()
    talk.signin({"id": "7"})
    talk.hear("#server-to-user-7")
    assert send(talk, "#server-to-user-7") == error(
        "client events need a private- or presence- channel", "#server-to-user-7"
    )


def test_client_event_is_refused_to_whoever_is_not_subscribed() -> None:
    """Neither before success nor after leaving, and never without having asked."""
    reason = error("only a subscriber may send client events")
    talk = talking()
    assert send(talk) == reason
    talk.subscribe_signed(PRIVATE)
    assert send(talk) == reason
    talk.joined(PRIVATE)
    assert send(talk) == reason
    talk.entered(PRIVATE)
    assert isinstance(send(talk), Relay)
    talk.unsubscribe(PRIVATE)
    assert send(talk) == reason


def test_client_event_on_a_contract_channel_needs_the_contracts_leave() -> None:
    """Where its family allows them they pass; otherwise they are refused."""
    assert send(talking(DESK), DESK) == error("client events are not enabled on this channel", DESK)
    assert send(talking(DESK, rules=allowing()), DESK) == Relay(DESK, "client-x", "{}", None)


def test_card_data_never_passes_between_clients() -> None:
    """On a contract channel; other channels are the backends' own affair."""
    card = {"note": "4111 1111 1111 1111"}
    assert send(talking(DESK, rules=allowing()), DESK, card) == error(
        "card data never passes", DESK
    )
    assert isinstance(send(talking(PRIVATE), data=card), Relay)


@pytest.mark.parametrize("letter, most", [("x", MAX_EVENT_DATA), ("é", MAX_EVENT_DATA // 2)])
def test_client_event_has_at_most_ten_kilobytes(letter: str, most: int) -> None:
    """Bytes of UTF-8, as for events by HTTP."""
    talk = talking(PRIVATE)
    assert isinstance(send(talk, data=letter * most), Relay)
    reason = f"a client event's data exceeds {MAX_EVENT_DATA} bytes"
    assert send(talk, data=letter * (most + 1)) == error(reason)


def test_client_event_nested_deeper_than_can_be_written_is_null() -> None:
    """Its own fault costs the sender its data, and us nothing."""
    talk = talking(PRIVATE)
    deep = b"[" * 400 + b"]" * 400
    text = b'{"event":"client-x","channel":"private-x","data":' + deep + b"}"
    assert talk.connection.receive(text, talk.now) == [Relay(PRIVATE, "client-x", "null", None)]


def test_client_event_with_a_name_that_is_too_long_is_refused() -> None:
    """Two hundred characters, as for events by HTTP."""
    talk = talking(PRIVATE)
    longest = "client-" + "x" * 193
    assert isinstance(send(talk, event=longest), Relay)
    assert send(talk, event=longest + "x") == error("event must be a string of 1 to 200 characters")


def test_client_events_are_bounded_per_connection() -> None:
    """Ten at once, then ten a second, over all channels; the connection goes on."""
    talk = talking(PRIVATE, "presence-x")
    too_many = error("more than 10 client events a second")
    for _ in range(5):
        assert isinstance(send(talk), Relay)
        assert isinstance(send(talk, "presence-x"), Relay)
    assert send(talk) == too_many
    talk.now += 0.11
    assert isinstance(send(talk), Relay)
    assert send(talk) == too_many
    talk.now += 3600
    assert [isinstance(send(talk), Relay) for _ in range(11)] == [True] * 10 + [False]


def test_refused_client_event_takes_nothing_from_the_bound() -> None:
    """What is not relayed burdens nobody else."""
    talk = talking(PRIVATE, app=replace(APP, limits=Limits(client_events_per_s=1)))
    for _ in range(5):
        send(talk, "private-other")
    assert isinstance(send(talk), Relay)
    assert send(talk) == error("more than 1 client events a second")

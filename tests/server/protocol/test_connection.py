from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from auth.access import PLAIN_GRANT, Grant
from auth.apps import Limits
from channels_spec.pusher import kind_of
from server.protocol.effects import Admit, Enter, Join, Leave, MissedCache
from server.protocol.presence import Entered, Member
from server.protocol.rules import Rules
from server.protocol.way import Way
from tests.people import APP, CONTRACT, staff
from tests.server.protocol.talk import (
    PUSHER,
    ROOMS,
    SOCKET_ID,
    Talk,
    heard,
    refused,
    succeeded,
)

GRANT = Grant(views=(("grand", "staff"),))
MAX_SUBSCRIPTIONS = APP.limits.max_subscriptions
GREETING = {
    "event": "pusher:connection_established",
    "data": {"socket_id": SOCKET_ID, "activity_timeout": 30},
}
PONG: dict[str, Any] = {"event": "pusher:pong", "data": {}}


DESK = "presence-grand.front-desk"
ZOE = Member("staff-1", '{"name":"Zoë"}'.encode())


def subscribe(channel: str) -> bytes:
    """Return the message that asks for a channel."""
    return json.dumps({"event": "pusher:subscribe", "data": {"channel": channel}}).encode()


def staff_talk(rules: Rules = PUSHER) -> Talk:
    """Return a conversation with a staff member whom the handshake made known."""
    talk = Talk(rules)
    talk.open(staff("grand"))
    return talk


# --- opening -------------------------------------------------------------------------------------


@pytest.mark.parametrize("who, way", [(None, Way.NONE), (staff("grand"), Way.PATH)])
def test_connection_greets_first(who: Any, way: Way) -> None:
    """The greeting is the first frame, and all there is, whether or not somebody is known."""
    talk = Talk()
    assert talk.open(who, way) == [GREETING]
    assert talk.connection.principal is who
    assert talk.connection.channels == []


def test_connection_tells_the_installations_activity_timeout() -> None:
    """The client pings after what the settings say."""
    greeting = Talk(Rules(CONTRACT, activity_timeout_s=7)).open()[0]
    assert greeting["data"]["activity_timeout"] == 7


# --- commands that change nothing ----------------------------------------------------------------


def test_ping_is_answered_and_pong_is_not() -> None:
    """A ping is ponged even before the greeting was read, a pong ends there."""
    talk = Talk()
    assert talk.say("pusher:ping", "") == [PONG]
    assert talk.say("pusher:pong") == []


@pytest.mark.parametrize("joined", [True, False])
def test_client_event_is_refused_on_its_channel(joined: bool) -> None:  # noqa: FBT001
    """A family that allows none: the error names the channel, and nothing closes."""
    talk = staff_talk()
    if joined:
        talk.hear("private-grand.rooms")
    assert talk.say("client-typing", {"a": 1}, channel="private-grand.rooms") == [
        {
            "event": "pusher:error",
            "channel": "private-grand.rooms",
            "data": {"code": 4301, "message": "client events are not enabled on this channel"},
        }
    ]


def test_malformed_message_is_answered_and_the_connection_goes_on() -> None:
    """The peer's fault costs it one error frame."""
    talk = staff_talk()
    assert talk.say("nonsense") == [
        {"event": "pusher:error", "data": {"code": 4300, "message": "unknown event 'nonsense'"}}
    ]
    assert talk.subscribe(ROOMS) == [Join(ROOMS, GRANT)]


# --- the life of a subscription ------------------------------------------------------------------


def test_subscription_succeeds_when_the_node_listens() -> None:
    """Success is told only once no event can be missed and the broker has let the client in."""
    talk = staff_talk()
    assert talk.subscribe(ROOMS) == [Join(ROOMS, GRANT)]
    assert talk.connection.channels == [ROOMS]
    assert talk.joined(ROOMS) == [Enter(ROOMS, talk.asked[ROOMS])]
    entered = Entered(number=7, epoch="ab", version=3)
    assert talk.entered(ROOMS, entered) == [succeeded(ROOMS), Admit(ROOMS, entered)]


def test_subscribe_is_idempotent() -> None:
    """Asked again, nothing joins or enters twice; what has succeeded is told again."""
    talk = staff_talk()
    talk.subscribe(ROOMS)
    assert talk.subscribe(ROOMS) == []
    assert len(talk.joined(ROOMS)) == 1
    assert talk.subscribe(ROOMS) == []
    assert talk.joined(ROOMS) == []
    assert talk.entered(ROOMS) == heard(ROOMS)
    assert talk.subscribe(ROOMS) == [succeeded(ROOMS)]
    assert talk.joined(ROOMS) == []


def test_unsubscribe_leaves_and_is_idempotent() -> None:
    """It has no answer, and a channel that was never asked for is left in silence."""
    talk = staff_talk()
    assert talk.unsubscribe(ROOMS) == []
    talk.hear(ROOMS)
    assert talk.unsubscribe(ROOMS) == [Leave(ROOMS)]
    assert talk.unsubscribe(ROOMS) == []
    assert talk.connection.channels == []
    assert talk.hear(ROOMS) == [Join(ROOMS, GRANT), *heard(ROOMS)]


@pytest.mark.parametrize("far", ["joining", "entering"])
def test_unsubscribe_leaves_at_once_when_it_came_before_success(far: str) -> None:
    """A subscribe cancelled on its way has left, and what the broker answers then is nothing."""
    talk = staff_talk()
    talk.subscribe(ROOMS)
    if far == "entering":
        talk.joined(ROOMS)
    assert talk.unsubscribe(ROOMS) == [Leave(ROOMS)]
    assert talk.connection.channels == []
    if far == "entering":
        assert talk.entered(ROOMS) == []
        assert talk.refused(ROOMS, "full") == []
    assert talk.joined(ROOMS) == []


def test_answer_for_a_subscription_before_is_nothing_to_the_one_after() -> None:
    """Left and asked for again, a channel waits for an answer of its own."""
    talk = staff_talk()
    talk.subscribe(ROOMS)
    talk.joined(ROOMS)
    before = talk.asked[ROOMS]
    talk.unsubscribe(ROOMS)
    assert talk.subscribe(ROOMS) == [Join(ROOMS, GRANT)]
    assert talk.connection.entered(ROOMS, before, Entered()) == []
    assert talk.connection.refused(ROOMS, before, "full") == []
    assert talk.arrive(ROOMS) == heard(ROOMS)


def test_roster_is_told_as_the_broker_knows_it() -> None:
    """The client finds itself and the others; on other channels there is no roster."""
    talk = Talk()
    talk.open(staff("grand", name="Zoë"))
    assert talk.subscribe(DESK) == [Join(DESK, GRANT)]
    talk.joined(DESK)
    assert talk.asked[DESK].member == ZOE
    entered = Entered(version=2, roster=(Member("7", b"null"), ZOE))
    roster = {"ids": ["7", "staff-1"], "hash": {"7": None, "staff-1": {"name": "Zoë"}}, "count": 2}
    assert talk.entered(DESK, entered) == [
        succeeded(DESK, {"presence": roster}),
        Admit(DESK, entered),
    ]


def test_repeated_subscribe_on_presence_asks_for_the_roster_of_now() -> None:
    """Success is told again with whom the broker knows then; nothing is admitted a second time."""
    talk = Talk()
    talk.open(staff("grand", name="Zoë"))
    talk.hear(DESK)
    assert talk.asking(talk.connection.receive(subscribe(DESK), talk.now)) == [
        Enter(DESK, talk.asked[DESK])
    ]
    later = Entered(version=9, roster=(ZOE, Member("8", b"1")))
    roster = {"ids": ["staff-1", "8"], "hash": {"staff-1": {"name": "Zoë"}, "8": 1}, "count": 2}
    assert talk.entered(DESK, later) == [succeeded(DESK, {"presence": roster})]


def test_roster_is_asked_for_again_when_members_may_have_come_and_gone() -> None:
    """The client is told who is there now; nothing where it is not subscribed."""
    talk = Talk()
    talk.open(staff("grand"))
    assert talk.connection.refresh(DESK) == []
    talk.hear(DESK)
    (enter,) = talk.asking(talk.connection.refresh(DESK))
    assert isinstance(enter, Enter)
    entered = Entered(version=5, roster=(ZOE,))
    (frame,) = talk.entered(DESK, entered)
    assert frame["data"]["presence"]["ids"] == [ZOE.user_id]


def test_refusal_of_the_broker_leaves_no_trace() -> None:
    """The client is told why, and may ask again."""
    talk = Talk()
    talk.open(staff("grand"))
    for _ in range(2):
        assert talk.subscribe(DESK) == [Join(DESK, GRANT)]
        talk.joined(DESK)
        full = "the presence channel is full"
        assert talk.refused(DESK, full) == [Leave(DESK), refused(DESK, 403, full)]
        assert talk.connection.channels == []


# --- cache channels ------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["cache-x", "private-cache-x", "private-encrypted-cache-x"])
def test_cached_event_follows_the_success(channel: str) -> None:
    """Before anything that was held back, and as the frame that it was."""
    talk = staff_talk()
    signed = kind_of(channel).signed
    asked = talk.subscribe_signed(channel) if signed else talk.subscribe(channel)
    assert asked == [Join(channel, PLAIN_GRANT)]
    talk.joined(channel)
    entered = Entered(number=3, cached=b'{"event":"x","data":"1"}')
    assert talk.entered(channel, entered) == [
        succeeded(channel),
        {"event": "x", "data": 1},
        Admit(channel, entered),
    ]
    assert talk.subscribe(channel) == [succeeded(channel)]


def test_cache_miss_is_told_to_the_client_and_the_backend() -> None:
    """Only a cache channel has one."""
    talk = staff_talk()
    assert talk.hear("cache-x") == [
        Join("cache-x", PLAIN_GRANT),
        succeeded("cache-x"),
        {"event": "pusher:cache_miss", "channel": "cache-x", "data": {}},
        MissedCache("cache-x"),
        Admit("cache-x", Entered()),
    ]
    assert talk.hear("my-cache-x") == [Join("my-cache-x", PLAIN_GRANT), *heard("my-cache-x")]


def test_subscribe_that_is_refused_leaves_no_trace() -> None:
    """The client is told why; the channel may be asked for again."""
    talk = staff_talk(Rules(CONTRACT))
    reason = "the token does not name the hotel sea-view"
    for _ in range(2):
        assert talk.subscribe("sea-view.rooms") == [refused("sea-view.rooms", 403, reason)]
    assert talk.subscribe("x") == [refused("x", 403, "the channel is not in the contract")]
    assert talk.connection.channels == []
    assert talk.joined("x") == []


def test_subscriptions_are_bounded() -> None:
    """What is over the bound is refused; those that are there, and those left, do not count."""
    talk = staff_talk()
    for number in range(MAX_SUBSCRIPTIONS):
        assert talk.subscribe(f"x{number}") == [Join(f"x{number}", PLAIN_GRANT)]
    assert talk.subscribe("x0") == []
    reason = f"more than {MAX_SUBSCRIPTIONS} subscriptions on one connection"
    assert talk.subscribe("y") == [refused("y", 403, reason)]
    talk.arrive("x0")
    talk.unsubscribe("x0")
    assert talk.subscribe("y") == [Join("y", PLAIN_GRANT)]
    # Left on its way in is left.
    assert talk.unsubscribe("y") == [Leave("y")]
    assert len(talk.subscribe("y")) == 1
    assert talk.subscribe("z") == [refused("z", 403, reason)]
    assert talk.subscribe("y") == []


def test_bound_of_subscriptions_is_the_apps() -> None:
    """Each app has its own."""
    talk = Talk(PUSHER, app=replace(APP, limits=Limits(max_subscriptions=1)))
    talk.open()
    talk.hear("x")
    reason = "more than 1 subscriptions on one connection"
    assert talk.subscribe("y") == [refused("y", 403, reason)]

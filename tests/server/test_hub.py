from __future__ import annotations

import pytest

from auth.access import PLAIN_GRANT, Grant
from tests.server.room import KEY, Client, Room

STAFF = Grant(views=(("a", "staff"),))
FINANCE = Grant(views=(("a", "finance"),))
BOTH = "staff finance"
OTHER = ("1", "other")


# --- joining and leaving -------------------------------------------------------------------------


def test_subscriber_joins_at_once_when_the_node_listens() -> None:
    """Where the channel is listened to already, success follows the join."""
    room = Room()
    client = room.client("1.1", STAFF)
    assert client.confirmed == [KEY[1]]
    assert room.watched == [KEY]
    assert room.hub.subscribers(KEY) == [client]
    assert room.hub.channel_count == 1


def test_subscriber_waits_until_the_node_listens() -> None:
    """Nobody is admitted, nor told so, before the broker has confirmed the channel."""
    room = Room(listens=False)
    clients = [room.client("1.1", STAFF), room.client("1.2", FINANCE)]
    assert [client.confirmed for client in clients] == [[], []]
    room.publish("early", views=BOTH)
    room.turn()
    room.hub.watched(*KEY)
    room.publish("late", views=BOTH)
    room.turn()
    assert [client.confirmed for client in clients] == [[KEY[1]], [KEY[1]]]
    assert [client.got for client in clients] == [["late:staff"], ["late:finance"]]


def test_channel_is_asked_for_anew_at_each_join() -> None:
    """After an outage a channel with subscribers is not listened to yet: newcomers wait for it."""
    room = Room()
    first = room.client("1.1", STAFF)
    room.listens = False
    second = room.client("1.2", STAFF)
    assert (first.confirmed, second.confirmed) == ([KEY[1]], [])
    room.hub.watched(*KEY)
    assert (first.confirmed, second.confirmed) == ([KEY[1]], [KEY[1]])


def test_confirmation_of_a_channel_that_nobody_wants_any_more_is_nothing() -> None:
    """Whoever left while waiting is not told anything."""
    room = Room(listens=False)
    client = room.client("1.1", STAFF)
    client.leave()
    assert room.unwatched == [KEY]
    room.hub.watched(*KEY)
    assert client.confirmed == []
    assert room.hub.channel_count == 0


def test_channel_is_listened_to_while_anybody_is_there() -> None:
    """The last one to leave, admitted or not, ends it; leaving twice is leaving once."""
    room = Room(listens=False)
    first, second = room.client("1.1", STAFF), room.client("1.2", STAFF)
    room.hub.watched(*KEY)
    third = room.client("1.3", FINANCE)
    first.leave()
    second.leave()
    assert room.unwatched == []
    third.leave()
    assert room.unwatched == [KEY]
    room.hub.leave(KEY, third)
    assert room.unwatched == [KEY]
    assert room.hub.subscribers(KEY) == []


def test_channels_of_two_apps_are_two_channels() -> None:
    """The same name in another app is another channel."""
    room = Room()
    client = room.client("1.1", STAFF)
    room.publish("x", key=("2", KEY[1]))
    room.turn()
    assert client.got == []


# --- who gets what -------------------------------------------------------------------------------


def test_subscriber_gets_the_frame_of_its_view() -> None:
    """Each group gets its own encoding; an event without a view of theirs passes them by."""
    room = Room()
    staff, finance = room.client("1.1", STAFF), room.client("1.2", FINANCE)
    room.publish("a", views=BOTH)
    room.publish("b", views="finance")
    room.turn()
    assert staff.got == ["a:staff"]
    assert finance.got == ["a:finance", "b:finance"]


@pytest.mark.parametrize(
    "grant, seen",
    [
        (STAFF, ["1:staff"]),
        (Grant(views=(("b", "staff"),)), ["2:staff"]),
        (Grant(views=(("a", "staff"), ("b", "finance"))), ["1:staff", "2:finance"]),
        (Grant(views=(("a", "staff"),), no_hotel="staff"), ["1:staff", "3:staff"]),
        (Grant(views=(("a", "staff"),), any_hotel="finance"), ["1:staff", "2:finance"]),
        (Grant(any_hotel="staff", no_hotel="staff"), ["1:staff", "2:staff", "3:staff"]),
        (PLAIN_GRANT, ["4:plain"]),
        (Grant(), []),
    ],
)
def test_subscriber_gets_the_events_of_its_hotels_in_order(grant: Grant, seen: list[str]) -> None:
    """On a channel that hotels share, an event reaches whom its hotel is granted to."""
    room = Room()
    client = room.client("1.1", grant)
    room.publish("1", views=BOTH, hotel="a")
    room.publish("2", views=BOTH, hotel="b")
    room.publish("3", views=BOTH, hotel="")
    room.publish("4", views="plain", hotel="")
    room.turn()
    assert client.got == seen


def test_event_of_a_channel_without_subscribers_costs_nothing() -> None:
    """It is neither kept nor put off to the end of the turn."""
    room = Room()
    room.publish("x")
    assert room.deferred == []


def test_events_of_one_turn_are_written_once() -> None:
    """What arrives within one turn is joined: one write a subscriber, in the order of arrival."""
    room = Room()
    clients = [room.client(f"1.{number}", STAFF) for number in range(3)]
    for number in range(4):
        room.publish(str(number))
    assert [client.wire.written for client in clients] == [[], [], []]
    assert len(room.deferred) == 1
    room.turn()
    for client in clients:
        assert client.wire.written == [b"0:staff 1:staff 2:staff 3:staff "]
    # One and the same bytes object for all: the kernel copies it, not we.
    assert clients[0].wire.written[0] is clients[2].wire.written[0]
    assert room.hub.delivered == 12
    room.turn()
    assert room.hub.delivered == 12


def test_turns_follow_each_other() -> None:
    """Every turn with events puts off one flush, whatever channels they are of."""
    room = Room()
    here, there = room.client("1.1", STAFF), room.client("1.2")
    there.join(STAFF, OTHER)
    for text in ("1", "2"):
        room.publish(text)
        room.publish(text, key=OTHER)
        assert len(room.deferred) == 1
        room.turn()
    assert here.got == there.got == ["1:staff", "2:staff"]


# --- what is written before something changes ----------------------------------------------------


def test_newcomer_gets_nothing_that_was_published_before() -> None:
    """What the channel has gathered goes to those who were there."""
    room = Room()
    first = room.client("1.1", STAFF)
    room.publish("before")
    second = room.client("1.2", STAFF)
    room.publish("after")
    room.turn()
    assert first.got == ["before:staff", "after:staff"]
    assert second.got == ["after:staff"]


def test_leaver_gets_what_was_published_before() -> None:
    """And nothing of what comes after, though it be of the same turn."""
    room = Room()
    client, other = room.client("1.1", STAFF), room.client("1.2", STAFF)
    room.publish("before")
    client.leave()
    room.publish("after")
    room.turn()
    assert client.got == ["before:staff"]
    assert other.got == ["before:staff", "after:staff"]


def test_regrouped_subscriber_gets_each_event_by_the_right_of_its_time() -> None:
    """What was published under the old right goes out under it, once."""
    room = Room()
    client = room.client("1.1", FINANCE)
    room.publish("1", views=BOTH)
    room.hub.regroup(KEY, client, STAFF)
    room.publish("2", views=BOTH)
    room.turn()
    assert client.got == ["1:finance", "2:staff"]


def test_regrouped_subscriber_joins_by_its_new_right() -> None:
    """A right that changes while joining counts from the first event."""
    room = Room(listens=False)
    client = room.client("1.1", FINANCE)
    room.hub.regroup(KEY, client, STAFF)
    room.hub.watched(*KEY)
    room.publish("1", views=BOTH)
    room.turn()
    assert client.got == ["1:staff"]


def test_regroup_of_a_stranger_admits_nobody() -> None:
    """Neither a channel that nobody hears nor one of others takes in whoever has not joined."""
    room = Room()
    stranger = room.client("1.1")
    room.hub.regroup(KEY, stranger, STAFF)
    assert room.hub.channel_count == 0
    client = room.client("1.2", STAFF)
    room.hub.regroup(KEY, stranger, STAFF)
    assert room.hub.subscribers(KEY) == [client]


# --- excluded sockets ----------------------------------------------------------------------------


def test_excluded_socket_gets_all_but_its_own() -> None:
    """The sender misses its event and nothing around it; others of its group miss nothing."""
    room = Room()
    sender, other = room.client("1.1", STAFF), room.client("1.2", STAFF)
    room.publish("1")
    room.publish("2", exclude="1.1")
    room.publish("3", exclude="9.9")
    room.publish("4", exclude="1.2")
    room.turn()
    assert sender.got == ["1:staff", "3:staff", "4:staff"]
    assert other.got == ["1:staff", "2:staff", "3:staff"]


def test_excluded_socket_is_written_nothing_when_all_were_its_own() -> None:
    """No empty write for a sender that is alone with its events."""
    room = Room()
    sender = room.client("1.1", STAFF)
    room.publish("1", exclude="1.1")
    room.turn()
    assert sender.wire.written == []


def test_excluded_socket_of_another_channel_changes_nothing() -> None:
    """A socket that is here, but not on this channel or in another group, is no exception."""
    room = Room()
    elsewhere = room.client("1.1")
    elsewhere.join(STAFF, OTHER)
    finance, client = room.client("1.2", FINANCE), room.client("1.3", STAFF)
    room.publish("1", views=BOTH, exclude="1.1")
    room.publish("2", views=BOTH, exclude="1.2")
    room.turn()
    assert client.got == ["1:staff", "2:staff"]
    assert finance.got == ["1:finance"]
    assert elsewhere.got == []


# --- slow consumers ------------------------------------------------------------------------------


def slow(room: Room, socket_id: str, grant: Grant = STAFF) -> Client:
    """Return a subscriber whose next frame is too much for it."""
    client = room.client(socket_id, grant, limit=1)
    client.outbox.pause()
    return client


@pytest.mark.parametrize("exclude", ["", "1.3"])
def test_slow_consumer_is_ended_after_all_were_served(exclude: str) -> None:
    """One that does not read holds up nobody, and is gone before the next event."""
    room = Room()
    lagging, client, excluded = slow(room, "1.1"), room.client("1.2", STAFF), slow(room, "1.3")
    room.publish("1", exclude=exclude)
    room.turn()
    assert (lagging.fell, client.fell, excluded.fell) == (1, 0, 0 if exclude else 1)
    assert client.got == ["1:staff"]
    assert room.hub.slow_consumers == lagging.fell + excluded.fell
    assert lagging not in room.hub.subscribers(KEY)
    room.publish("2")
    room.turn()
    assert client.got == ["1:staff", "2:staff"]
    assert lagging.fell == 1


def test_slow_consumer_that_is_leaving_has_left() -> None:
    """The flush before its leave ends it, and with it the channel: once."""
    room = Room()
    client = slow(room, "1.1")
    room.publish("1")
    room.hub.leave(KEY, client)
    assert client.fell == 1
    assert room.unwatched == [KEY]
    assert room.hub.channel_count == 0


def test_slow_consumer_that_is_regrouped_does_not_come_back() -> None:
    """The flush before its move ends it: it is in no group afterwards."""
    room = Room()
    client, other = slow(room, "1.1"), room.client("1.2", STAFF)
    room.publish("1", views=BOTH)
    room.hub.regroup(KEY, client, FINANCE)
    assert client.fell == 1
    assert room.hub.subscribers(KEY) == [other]


def test_slow_consumer_is_ended_by_whoever_comes_next() -> None:
    """The flush before a newcomer joins ends it too; the newcomer is admitted all the same."""
    room = Room()
    lagging = slow(room, "1.1")
    room.publish("1")
    client = room.client("1.2", STAFF)
    assert lagging.fell == 1
    assert room.hub.subscribers(KEY) == [client]
    assert room.unwatched == []


def test_slow_consumer_of_two_channels_falls_once() -> None:
    """What waits on its other channel is flushed while it leaves, and no longer offered to it."""
    room = Room()
    client, other = slow(room, "1.1"), room.client("1.2")
    client.join(STAFF, OTHER)
    other.join(STAFF, OTHER)
    room.publish("1")
    room.publish("2", key=OTHER)
    room.turn()
    assert room.hub.subscribers(OTHER) == [other]
    assert other.got == ["2:staff"]
    assert room.hub.channel_count == 1

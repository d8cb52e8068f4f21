"""What is held back while the broker lets a subscriber in, and what is no event."""

from __future__ import annotations

import pytest

from auth.access import PLAIN_GRANT, Grant
from server import hub as hub_module
from server.broker.message import Kind
from server.channels import Key
from server.history import Carried
from server.hub import Hub
from server.protocol.presence import Entered
from tests.server.room import KEY, NEW, Client, Room

STAFF = Grant(views=(("a", "staff"),))
FINANCE = Grant(views=(("a", "finance"),))
BOTH = "staff finance"
ROOM_1 = Grant(views=STAFF.views, scope=(("room_number", frozenset({"1"})),))
USER: Key = ("1", "#server-to-user-7")
ROSTER: Key = ("1", "presence-a.desk")
NOTHING = Carried((), 0, "", 0, 0, 0)


def held(room: Room, socket_id: str, grant: Grant = STAFF, limit: int = 1_000) -> Client:
    """Return a client for whom events are held back."""
    return room.client(socket_id, grant, limit, enters=False)


# --- held back -----------------------------------------------------------------------------------


def test_subscriber_hears_nothing_until_it_is_admitted() -> None:
    """What comes meanwhile is kept and written in one piece, before what comes afterwards."""
    room = Room()
    there, new = room.client("1.1", STAFF), held(room, "1.2")
    room.publish("1", number=1)
    room.turn()
    room.publish("2", number=2)
    assert (there.got, new.got) == (["1:staff"], [])
    assert room.hub.subscribers(KEY) == [there]
    new.admit()
    room.publish("3", number=3)
    room.turn()
    assert new.wire.written == [b"1:staff 2:staff ", b"3:staff "]
    assert there.got == ["1:staff", "2:staff", "3:staff"]
    assert room.hub.delivered == 6
    assert room.hub.subscribers(KEY) == [there, new]


def test_admitted_subscriber_gets_what_is_news_to_it() -> None:
    """What the broker has numbered before it let the subscriber in is not."""
    room = Room()
    early, late = held(room, "1.1"), held(room, "1.2")
    for number in range(1, 5):
        room.publish(str(number), number=number)
    room.turn()
    early.admit(Entered(number=1, epoch="e"))
    late.admit(Entered(number=4, epoch="e"))
    assert early.got == ["2:staff", "3:staff", "4:staff"]
    assert late.wire.written == []


def test_events_of_another_epoch_are_news() -> None:
    """Numbers of two epochs are not compared: Redis has begun anew."""
    room = Room()
    client = held(room, "1.1")
    room.publish("old", number=8, epoch="e")
    room.publish("new", number=1, epoch="f")
    client.admit(Entered(number=9, epoch="e"))
    assert client.got == ["new:staff"]


def test_admission_counts_the_roster_by_its_own_version() -> None:
    """A member that is on the roster already is not told of again; numbers are events' alone."""
    room = Room()
    client = held(room, "1.1", PLAIN_GRANT)
    room.announce(Kind.ROSTER, "came-3", number=3)
    room.announce(Kind.ROSTER, "came-4", number=4)
    room.announce(Kind.CLIENT_EVENT, "said")
    room.announce(Kind.COUNT, "two")
    client.admit(Entered(number=9, epoch="e", version=3))
    assert client.got == ["came-4", "said", "two"]


def test_own_events_are_excluded_from_what_was_held_back() -> None:
    """The sender misses them, however far it has come."""
    room = Room()
    sender, other = held(room, "1.1"), held(room, "1.2")
    room.publish("1", exclude="1.1")
    room.announce(Kind.ROSTER, "came", exclude="1.1", number=1)
    for client in (sender, other):
        client.admit()
    assert (sender.got, other.got) == ([], ["1:staff", "came"])


def test_held_back_events_are_seen_by_the_right_of_their_time() -> None:
    """Regrouped while it waits, a subscriber gets each event as it would have got it."""
    room = Room()
    client = held(room, "1.1", FINANCE)
    room.publish("1", views=BOTH)
    room.hub.regroup(KEY, client, STAFF)
    room.publish("2", views=BOTH)
    room.publish("3", views="finance")
    room.turn()
    room.hub.regroup(KEY, client, Grant())
    room.publish("4", views=BOTH)
    room.hub.regroup(KEY, client, FINANCE)
    room.publish("5", views=BOTH)
    client.admit()
    room.publish("6", views=BOTH)
    room.turn()
    assert client.got == ["1:finance", "2:staff", "5:finance", "6:finance"]


def test_regroup_before_the_node_listens_leaves_no_trace() -> None:
    """The right with which the subscriber begins to be held is the latest."""
    room = Room(listens=False)
    client = held(room, "1.1", FINANCE)
    room.hub.regroup(KEY, client, STAFF)
    room.hub.watched(*KEY)
    room.publish("1", views=BOTH)
    client.admit()
    assert client.got == ["1:staff"]


def test_subscriber_that_leaves_while_it_is_held_gets_nothing() -> None:
    """What was kept for it is forgotten; others who wait keep theirs."""
    room = Room()
    leaver, stays = held(room, "1.1"), held(room, "1.2")
    room.publish("1")
    leaver.leave()
    assert room.unwatched == []
    leaver.admit()
    stays.admit()
    assert (leaver.got, stays.got) == ([], ["1:staff"])
    stays.leave()
    assert room.unwatched == [KEY]
    assert room.hub.channel_count == 0


def test_nothing_is_kept_when_nobody_waits_any_more() -> None:
    """The next one to come is held back from his own moment on."""
    for ends in ("leave", "admit"):
        room = Room()
        room.client("1.1", STAFF)
        first = held(room, "1.2")
        room.publish("1")
        room.turn()
        getattr(first, ends)()
        second = held(room, "1.3")
        room.publish("2")
        second.admit()
        assert second.got == ["2:staff"]


def test_newcomer_is_held_back_from_its_own_moment_on() -> None:
    """What was kept for those before it is not for it."""
    room = Room()
    first = held(room, "1.1")
    room.publish("1")
    second = held(room, "1.2")
    room.publish("2")
    second.admit()
    first.admit()
    assert (first.got, second.got) == (["1:staff", "2:staff"], ["2:staff"])


def test_admission_of_a_stranger_is_nothing() -> None:
    """Neither where nobody is, nor among others, nor twice."""
    room = Room()
    stranger = room.client("1.1")
    stranger.admit()
    client = room.client("1.2", STAFF)
    stranger.admit()
    client.admit(Entered(number=99, epoch="e"))
    room.publish("1")
    room.turn()
    assert (stranger.got, client.got) == ([], ["1:staff"])


def test_confirmation_again_changes_nothing_for_who_is_held() -> None:
    """After an outage the node listens anew: whoever waits for the broker goes on waiting."""
    room = Room()
    client = held(room, "1.1")
    room.publish("1")
    room.hub.watched(*KEY)
    room.publish("2")
    client.admit()
    assert client.got == ["1:staff", "2:staff"]
    assert client.confirmed == [KEY[1]]


def test_backlog_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who wait for the broker too long are slow consumers; the others miss nothing."""
    monkeypatch.setattr(hub_module, "MAX_BACKLOG", 3)
    room = Room()
    there, first, second = room.client("1.1", STAFF), held(room, "1.2"), held(room, "1.3")
    for number in range(3):
        room.publish(str(number))
    room.turn()
    assert (first.fell, second.fell) == (0, 0)
    room.publish("3")
    room.turn()
    assert (first.fell, second.fell, there.fell) == (1, 1, 0)
    assert room.hub.slow_consumers == 2
    assert len(there.got) == 4
    first.admit()
    assert room.hub.subscribers(KEY) == [there]
    # Those who come later have a backlog of their own.
    third = held(room, "1.4")
    room.publish("4")
    third.admit()
    assert third.got == ["4:staff"]


def test_backlog_that_becomes_too_much_at_the_last_moment_admits_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The flush before an admission ends the subscriber: it stays ended."""
    monkeypatch.setattr(hub_module, "MAX_BACKLOG", 1)
    room = Room()
    client = held(room, "1.1")
    room.publish("1")
    room.publish("2")
    client.admit()
    assert (client.fell, client.got) == (1, [])
    assert room.hub.channel_count == 0


def test_subscriber_that_cannot_take_what_was_held_back_is_a_slow_consumer() -> None:
    """What is held back counts like anything else that waits for it."""
    room = Room()
    client = held(room, "1.1", limit=10)
    client.outbox.pause()
    room.publish("much-too-much")
    client.admit()
    assert client.fell == 1
    assert room.hub.slow_consumers == 1
    assert room.hub.channel_count == 0


# --- what is no event ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.CLIENT_EVENT, Kind.ROSTER, Kind.COUNT])
def test_message_that_is_no_event_reaches_everybody(kind: Kind) -> None:
    """Whatever each may see of events, and whatever its filter, but for the excluded socket."""
    room = Room()
    clients = [
        room.client(f"1.{number}", grant)
        for number, grant in enumerate((STAFF, FINANCE, ROOM_1, PLAIN_GRANT, Grant()))
    ]
    room.announce(kind, "text", exclude="1.1")
    room.turn()
    assert [client.got for client in clients] == [["text"], [], ["text"], ["text"], ["text"]]


def test_message_that_is_no_event_keeps_its_place_among_events() -> None:
    """Joined with them in one write, in the order of arrival."""
    room = Room()
    client = room.client("1.1", STAFF)
    room.publish("1")
    room.announce(Kind.CLIENT_EVENT, "said")
    room.publish("2")
    room.turn()
    assert client.wire.written == [b"1:staff said 2:staff "]


# --- sessions ------------------------------------------------------------------------------------


def test_hub_counts_sessions_by_app() -> None:
    """Each that has come and has not gone; going twice is going once."""
    stirred: list[None] = []
    room = Room()
    hub = Hub(room, join=b"".join, defer=room.deferred.append, stir=lambda: stirred.append(None))
    assert hub.connections() == {}
    first, second = Client(hub, "1.1"), Client(hub, "1.2")
    assert hub.connections() == {"1": 2}
    for _ in range(2):
        hub.closed(first)
    assert hub.connections() == {"1": 1}
    assert list(hub.sessions.values()) == [second]
    assert len(stirred) == 3


# --- held back once more -------------------------------------------------------------------------


def test_who_is_held_once_more_gets_what_came_meanwhile_when_it_is_admitted_again() -> None:
    """In its place after what it got before; the others do not wait."""
    room = Room()
    there, late = room.client("1.1", STAFF), held(room, "1.2")
    late.admit(Entered(number=0, epoch="e"))
    assert not room.hub.hold(KEY, late, Entered(number=0, epoch="e"))
    room.publish("1", number=1)
    room.turn()
    room.hub.regroup(KEY, late, FINANCE)
    room.publish("2", views=BOTH, number=2)
    room.turn()
    assert (there.got, late.got) == (["1:staff", "2:staff"], [])
    late.admit(Entered(number=0, epoch="e"))
    assert late.got == ["1:staff", "2:finance"]
    room.publish("3", views=BOTH, number=3)
    room.turn()
    assert late.got[-1] == "3:finance"


@pytest.mark.parametrize("number, epoch, came", [(3, "e", False), (2, "e", True), (3, "d", True)])
def test_hub_tells_whether_who_is_held_may_have_got_something(
    number: int, epoch: str, *, came: bool
) -> None:
    """What the channel has gathered goes out first, and counts."""
    room = Room()
    late = room.client("1.1", STAFF)
    room.publish("3", number=3)
    assert room.hub.hold(KEY, late, Entered(number=number, epoch=epoch)) is came
    assert late.got == ["3:staff"]


def test_member_that_waits_for_its_fence_goes_on_waiting() -> None:
    """It has got nothing yet; the bus may come to its fence before it is admitted again."""
    room = Room()
    client = held(room, "1.1")
    client.join(STAFF, ROSTER)
    client.admit(NEW, ROSTER)
    assert not room.hub.hold(ROSTER, client, NEW)
    room.announce(Kind.FENCE, "", exclude="1.1", key=ROSTER)
    room.turn()
    assert room.hub.subscribers(ROSTER) == []
    client.admit(NEW, ROSTER)
    assert room.hub.subscribers(ROSTER) == [client]
    # It has passed that once and for all.
    assert not room.hub.hold(ROSTER, client, NEW)
    room.hub.lost(5_000)
    room.hub.watched(*ROSTER)
    room.hub.repaired(ROSTER, room.repairs[-1][1], NOTHING, None)
    assert client.refreshed == [ROSTER[1]]
    client.admit(NEW, ROSTER)
    assert room.hub.subscribers(ROSTER) == [client]


def test_who_has_left_is_not_held() -> None:
    """Nor who is on no such channel."""
    room = Room()
    stays, gone = room.client("1.1", STAFF), room.client("1.2", STAFF)
    gone.leave()
    assert not room.hub.hold(KEY, gone, NEW)
    stays.leave()
    assert not room.hub.hold(KEY, stays, NEW)
    assert room.hub.channel_count == 0


# --- onlookers -----------------------------------------------------------------------------------


class Onlooker:
    """Remembers what it is told of users."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def listens(self, user_id: str) -> None:
        self.heard.append(("listens", user_id))

    def status_changed(self, user_id: str) -> None:
        self.heard.append(("changed", user_id))


def test_onlooker_hears_of_a_user_from_when_the_node_listens() -> None:
    """At once where it does already; every time anew after an outage."""
    room = Room(listens=False)
    first, second = Onlooker(), Onlooker()
    room.hub.watch_user("1", "7", first)
    assert (room.watched, first.heard) == ([USER], [])
    room.hub.watched(*USER)
    assert first.heard == [("listens", "7")]
    room.listens = True
    room.hub.watch_user("1", "7", second)
    assert (first.heard, second.heard) == ([("listens", "7")], [("listens", "7")])
    room.hub.watched(*USER)
    assert first.heard == second.heard == [("listens", "7")] * 2


def test_onlooker_is_told_of_changes_and_of_nothing_else() -> None:
    """Once a turn is enough, for the state of now is asked; events to the user are his alone."""
    room = Room()
    onlooker = Onlooker()
    room.hub.watch_user("1", "7", onlooker)
    client = room.client("1.1")
    client.join(PLAIN_GRANT, USER)
    onlooker.heard.clear()
    room.publish("secret", views="plain", hotel="", key=USER)
    room.turn()
    assert (onlooker.heard, client.got) == ([], ["secret:plain"])
    room.announce(Kind.USER_STATUS, "online", key=USER)
    room.announce(Kind.USER_STATUS, "offline", key=USER)
    room.turn()
    assert onlooker.heard == [("changed", "7")]
    # The user is not told of himself.
    assert client.got == ["secret:plain"]


def test_onlooker_that_stops_is_told_nothing_and_listened_to_no_more() -> None:
    """The node listens while any is left, or the user himself is there; stopping twice is once."""
    room = Room()
    first, second, client = Onlooker(), Onlooker(), room.client("1.1")
    room.hub.watch_user("1", "7", first)
    room.hub.watch_user("1", "7", second)
    client.join(PLAIN_GRANT, USER)
    room.hub.unwatch_user("1", "7", first)
    room.announce(Kind.USER_STATUS, "online", key=USER)
    room.turn()
    assert ("changed", "7") not in first.heard
    assert ("changed", "7") in second.heard
    client.leave(USER)
    assert room.unwatched == []
    for _ in range(2):
        room.hub.unwatch_user("1", "7", second)
    assert room.unwatched == [USER]
    assert room.hub.channel_count == 0

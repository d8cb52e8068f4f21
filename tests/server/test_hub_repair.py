"""A node that was deaf for a while: what it missed goes out before what is live."""

from __future__ import annotations

import pytest

import server.hub as hub_module
from auth.access import Grant
from server.broker.message import BusMessage, Kind
from server.channels import Key
from server.history import Carried, Known
from server.hub import Hub
from server.protocol.presence import Entered, GapReason
from tests.server.room import KEY, Client, Room, message

STAFF = Grant(views=(("a", "staff"),))
ROSTER: Key = ("1", "presence-a.desk")


def event(number: int, epoch: str = "e") -> BusMessage:
    """Return an event as the history has it."""
    found = message({"staff": f"{number}:staff".encode()}, "a", number=number)
    found.epoch = epoch
    return found


def carried(*numbers: int, epoch: str = "e") -> Carried:
    """Return what a channel has carried."""
    found = tuple(event(number, epoch) for number in numbers)
    return Carried(found, numbers[-1] if numbers else 0, epoch, 0, len(numbers), 0)


def heard(room: Room, *numbers: int, key: Key = KEY) -> None:
    """Have events come in by the bus."""
    for number in numbers:
        room.publish(str(number), number=number, key=key, time_ms=1_000 + number)
    room.turn()


def cut_off(*numbers: int, listens: bool = True) -> tuple[Room, Client]:
    """Return a room that has heard these events and is deaf now, and who is in it."""
    room = Room()
    client = room.client("1.1", STAFF)
    heard(room, *numbers)
    room.hub.lost(5_000)
    room.listens = listens
    return room, client


def repaired(
    room: Room, found: Carried, gap: GapReason | None = None, at: int = -1, key: Key = KEY
) -> None:
    """Answer what the hub has asked."""
    asked, known = room.repairs[at]
    assert asked == key
    room.hub.repaired(key, known, found, gap)


def test_missed_events_come_first_and_once() -> None:
    """Live ones wait for them; those that came by both ways go out once."""
    room, client = cut_off(1, 2)
    room.hub.watched(*KEY)
    assert room.repairs == [(KEY, Known(5_000, 2, "e"))]
    heard(room, 5, 6)
    assert client.got == ["1:staff", "2:staff"]
    repaired(room, carried(1, 2, 3, 4, 5))
    assert client.got == [f"{number}:staff" for number in range(1, 7)]
    heard(room, 7)
    assert client.got[-1] == "7:staff"
    assert room.hub.delivered == 7


def test_events_of_another_epoch_are_all_new() -> None:
    """Their numbers begin anew; before them the gap is told."""
    room, client = cut_off(1, 2)
    room.hub.watched(*KEY)
    repaired(room, carried(1, epoch="f"), GapReason.EPOCH_CHANGED)
    *_, notice, last = b"".join(client.wire.written).decode().split(" ")[:-1]
    assert last == "1:staff"
    assert '"event":"bellhop:gap","channel":"staff-hotel-1"' in notice
    assert "epoch_changed" in notice
    assert "1970-01-01T00:00:05.000Z" in notice


def test_what_is_no_event_keeps_its_place_among_what_is_live() -> None:
    """It is in no history."""
    room, client = cut_off(1)
    room.hub.watched(*KEY)
    room.announce(Kind.CLIENT_EVENT, "said")
    room.turn()
    repaired(room, carried(2))
    assert client.got == ["1:staff", "2:staff", "said"]


def test_last_event_that_was_heard_is_known_whatever_followed_it() -> None:
    """A count after it in the same turn does not hide it."""
    room = Room()
    room.client("1.1", STAFF)
    room.publish("3", number=3, time_ms=1_003)
    room.announce(Kind.COUNT, "count")
    room.turn()
    room.hub.lost(1_000)
    room.hub.watched(*KEY)
    assert room.repairs == [(KEY, Known(1_003, 3, "e"))]


def test_channel_is_asked_about_once_for_each_loss() -> None:
    """Whoever comes meanwhile does not have it asked again; nor does an answer count twice."""
    room, client = cut_off(1)
    room.hub.watched(*KEY)
    room.client("1.2", STAFF)
    assert len(room.repairs) == 1
    repaired(room, carried(2))
    repaired(room, carried(2))
    assert client.got == ["1:staff", "2:staff"]
    room.hub.watched(*KEY)
    assert len(room.repairs) == 1


def test_answer_from_before_another_loss_does_not_count() -> None:
    """It cannot know what was missed then; and nothing of the first loss is forgotten."""
    room, client = cut_off(1)
    room.hub.watched(*KEY)
    room.hub.lost(9_000)
    repaired(room, carried(2))
    assert client.got == ["1:staff"]
    room.hub.watched(*KEY)
    repaired(room, carried(2), at=0)
    assert client.got == ["1:staff"]
    assert room.repairs[1] == (KEY, Known(5_000, 1, "e"))
    repaired(room, carried(2, 3))
    assert client.got == ["1:staff", "2:staff", "3:staff"]


def test_newcomer_costs_nobody_what_was_missed() -> None:
    """What it knows on entering, the others do not."""
    room, client = cut_off(1)
    newcomer = room.client("1.2", STAFF, enters=False)
    room.hub.watched(*KEY)
    newcomer.admit(Entered(number=3, epoch="e", time_ms=9_000))
    repaired(room, carried(2, 3))
    assert client.got == ["1:staff", "2:staff", "3:staff"]


def test_newcomer_that_is_let_in_meanwhile_gets_each_event_once() -> None:
    """What the broker numbered before it let it in, it has got already or was not to get."""
    room, _ = cut_off(1)
    newcomer = room.client("1.2", STAFF, enters=False)
    room.hub.watched(*KEY)
    newcomer.admit(Entered(number=3, epoch="e", time_ms=9_000))
    heard(room, 5)
    assert newcomer.got == []
    repaired(room, carried(2, 3, 4, 5))
    heard(room, 6)
    assert newcomer.got == ["4:staff", "5:staff", "6:staff"]


@pytest.mark.parametrize("epoch", ["", "d"])
def test_who_is_admitted_late_takes_the_channel_back_to_no_older_epoch(epoch: str) -> None:
    """What has come in since it entered is not repaired once more."""
    room = Room()
    client = room.client("1.1", STAFF, enters=False)
    heard(room, 1, 2)
    client.admit(Entered(number=0 if not epoch else 7, epoch=epoch, time_ms=1_000))
    assert client.got == ["1:staff", "2:staff"]
    room.hub.lost(5_000)
    room.hub.watched(*KEY)
    assert room.repairs == [(KEY, Known(5_000, 2, "e"))]
    repaired(room, carried(1, 2, 3))
    assert client.got == ["1:staff", "2:staff", "3:staff"]


def test_channel_without_subscribers_is_not_repaired() -> None:
    """Nobody has missed anything: neither who is only on the way in, nor onlookers."""
    room = Room(listens=False)
    room.client("1.1").join(STAFF)
    room.hub.lost(5_000)
    room.hub.watched(*KEY)
    assert room.repairs == []


def test_answer_for_a_channel_that_was_left_is_nothing() -> None:
    """Everybody has gone meanwhile."""
    room, client = cut_off(1)
    room.hub.watched(*KEY)
    client.leave()
    repaired(room, carried(2))
    assert client.got == ["1:staff"]


def test_roster_is_told_anew() -> None:
    """Members may have come and gone unheard, also before somebody who waits for the bus."""
    room = Room()
    client = room.client("1.1", enters=False)
    client.join(STAFF, ROSTER)
    room.announce(Kind.FENCE, "", exclude="1.1", key=ROSTER)
    room.turn()
    client.admit(key=ROSTER)
    waits, deaf = room.client("1.2", enters=False), room.client("1.3", enters=False)
    for newcomer in (waits, deaf):
        newcomer.join(STAFF, ROSTER)
    waits.admit(key=ROSTER)
    room.hub.lost(5_000)
    room.hub.watched(*ROSTER)
    repaired(room, carried(), key=ROSTER)
    assert (client.refreshed, waits.refreshed) == ([ROSTER[1]], [ROSTER[1]])
    assert deaf.refreshed == []
    assert set(room.hub.subscribers(ROSTER)) == {client, waits}


def test_what_comes_in_before_the_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of it is in the history."""
    monkeypatch.setattr(hub_module, "MAX_BACKLOG", 4)
    room, client = cut_off()
    room.hub.watched(*KEY)
    heard(room, 1, 2, 3, 4, 5)
    repaired(room, carried(1, 2))
    assert client.got == ["1:staff", "2:staff", "3:staff", "4:staff", "5:staff"]


def test_hub_without_anybody_to_ask_goes_on_waiting() -> None:
    """Nothing goes out that might have a hole before it."""
    room = Room()
    hub = Hub(room, join=b"".join, defer=room.deferred.append)
    client = Client(hub, "1.1")
    client.join(STAFF)
    hub.lost(5_000)
    hub.watched(*KEY)
    hub.fan_out(*KEY, event(1))
    room.turn()
    assert client.got == []


# --- fences --------------------------------------------------------------------------------------


def test_member_waits_until_the_bus_has_come_as_far_as_the_broker() -> None:
    """Whichever comes first, its fence or the broker's answer; another's is not its own."""
    for fence_first in (True, False):
        room = Room()
        client, other = room.client("1.1", enters=False), room.client("1.2")
        client.join(STAFF, ROSTER)
        steps = [
            lambda room=room: room.announce(Kind.FENCE, "", exclude="1.1", key=ROSTER),
            lambda client=client: client.admit(Entered(version=2), ROSTER),
        ]
        room.announce(Kind.ROSTER, "known", number=2, key=ROSTER)
        room.announce(Kind.FENCE, "", exclude=other.socket_id, key=ROSTER)
        room.announce(Kind.FENCE, "", exclude="9.9", key=ROSTER)
        for step in steps if fence_first else reversed(steps):
            assert room.hub.subscribers(ROSTER) == []
            step()
            room.turn()
        room.announce(Kind.ROSTER, "news", number=3, key=ROSTER)
        room.turn()
        assert client.got == ["news"]


def test_time_until_which_all_is_heard_stands_still_while_a_channel_is_repaired() -> None:
    """The bus is back, but what was missed has not gone out: no ping may prove it."""
    room, _ = cut_off(1)

    def hear(until: float) -> float | None:
        room.hub.heard(until)
        return room.hub.heard_until

    assert hear(7.0) is None
    room.hub.watched(*KEY)
    assert hear(8.0) is None
    repaired(room, carried(1, 2))
    assert hear(9.0) == 9.0
    assert hear(10.0) == 10.0
    room.hub.lost(10_000)
    assert hear(11.0) == 10.0

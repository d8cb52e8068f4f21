"""What waits: for somebody to authenticate, for time to pass, for the client to be heard."""

from __future__ import annotations

from typing import Any

import pytest

from auth.access import PLAIN_GRANT, Grant
from channels_spec.pusher import CloseCode
from server.protocol.effects import Close, Join
from server.protocol.parking import MAX_PARKED, MAX_PARKED_BYTES
from server.protocol.rules import Rules
from tests.people import APP, CONTRACT, guest, staff
from tests.server.protocol.talk import PUSHER, ROOMS, Talk, authenticated, heard, refused

GRANT = Grant(views=(("grand", "staff"),))
MAX_SUBSCRIPTIONS = APP.limits.max_subscriptions
PING: dict[str, Any] = {"event": "pusher:ping", "data": {}}
LATE = Close(CloseCode.AUTH_TIMEOUT, "nobody authenticated in time")
CROWDED = Close(CloseCode.OVER_CAPACITY, "too many subscribes before anybody authenticated")


def staff_talk() -> Talk:
    """Return a conversation with a staff member whom the handshake made known."""
    talk = Talk(PUSHER)
    talk.open(staff("grand"))
    return talk


# --- parking -------------------------------------------------------------------------------------


def test_parked_subscribes_are_judged_in_order_of_arrival() -> None:
    """Nothing is refused early; once it is known who speaks, each is answered in its turn."""
    talk = Talk()
    talk.open()
    asked = [ROOMS, "sea-view.rooms", "private-grand.rooms", "guest-booking-7", ROOMS]
    for channel in asked:
        assert talk.subscribe(channel) == []
    assert talk.connection.channels == []
    fresh = staff("grand")
    assert talk.renew(fresh)[1:] == [
        Join(ROOMS, GRANT),
        refused("sea-view.rooms", 403, "the token does not name the hotel sea-view"),
        Join("private-grand.rooms", GRANT),
        Join("guest-booking-7", Grant(views=(("grand", "guest"),))),
    ]


def test_parked_subscribe_is_forgotten_when_it_is_unsubscribed() -> None:
    """Whoever changed his mind while waiting joins nothing; asked anew, it goes to the end."""
    talk = Talk()
    talk.open()
    for channel in ("grand.rooms", "grand.booking", "grand.room-bookings"):
        talk.subscribe(channel)
    assert talk.unsubscribe("grand.rooms") == []
    assert talk.unsubscribe("grand.booking") == []
    talk.subscribe("grand.rooms")
    assert talk.renew(staff("grand"))[1:] == [
        Join("grand.room-bookings", GRANT),
        Join("grand.rooms", GRANT),
    ]


def test_parked_subscribe_is_nothing_new_when_a_signature_came_meanwhile() -> None:
    """What waits as guarded may be opened by a signature before anybody authenticates."""
    talk = Talk()
    talk.open()
    assert talk.subscribe("private-grand.rooms") == []
    assert talk.subscribe_signed("private-grand.rooms") == [Join("private-grand.rooms", GRANT)]
    fresh = staff("grand")
    assert talk.renew(fresh) == [authenticated(fresh.exp)]
    assert talk.arrive("private-grand.rooms") == heard("private-grand.rooms")


def test_parking_does_not_hold_up_open_channels() -> None:
    """Outside the contract nobody need be known, and that does not wait."""
    talk = Talk(PUSHER)
    talk.open()
    assert talk.subscribe(ROOMS) == []
    assert talk.hear("x") == [Join("x", PLAIN_GRANT), *heard("x")]


def test_parking_is_bounded_by_count() -> None:
    """Over its bound the connection closes with 4100; a repeated subscribe takes no place."""
    talk = Talk()
    talk.open()
    for number in range(MAX_PARKED):
        assert talk.subscribe(f"h{number}.rooms") == []
        assert talk.subscribe("h0.rooms") == []
    assert talk.subscribe("one-more.rooms") == [CROWDED]


def test_parking_is_bounded_by_size() -> None:
    """What a subscribe brings along counts too."""
    talk = Talk()
    talk.open()
    size = 60_000
    for number in range(MAX_PARKED_BYTES // (size + 100)):
        assert talk.subscribe(f"h{number}.rooms", auth="x" * size) == []
    assert talk.subscribe("one-more.rooms", channel_data="x" * size) == [CROWDED]


def test_parked_subscribes_over_the_bound_are_refused_one_by_one() -> None:
    """Released together they may be too many: the first ones are let in, and the rest told."""
    talk = Talk(PUSHER)
    talk.open()
    for number in range(MAX_SUBSCRIPTIONS - 1):
        talk.subscribe(f"x{number}")
    for number in range(3):
        talk.subscribe(f"grand{number}.rooms")
    who = staff("grand0", "grand1", "grand2")
    reason = f"more than {MAX_SUBSCRIPTIONS} subscriptions on one connection"
    assert talk.renew(who)[1:] == [
        Join("grand0.rooms", Grant(views=(("grand0", "staff"),))),
        refused("grand1.rooms", 403, reason),
        refused("grand2.rooms", 403, reason),
    ]
    # What was refused waits no more.
    talk.unsubscribe("x0")
    assert talk.renew(who)[1:] == []


# --- time ----------------------------------------------------------------------------------------


def test_connection_closes_when_nobody_authenticated_in_time() -> None:
    """4102 at the deadline, not before, whatever waits."""
    talk = Talk()
    talk.open()
    talk.subscribe(ROOMS)
    assert talk.connection.deadline() == talk.now + 10
    assert talk.tick(9.9) == []
    assert talk.tick(0.1) == [LATE]


def test_parked_subscribes_are_refused_when_no_token_is_required() -> None:
    """Without a duty to authenticate the connection stays; what waited is answered."""
    talk = Talk(Rules(CONTRACT, require_token=False))
    talk.open()
    talk.subscribe(ROOMS)
    talk.subscribe("guest-booking-7")
    late = "nobody authenticated in time"
    assert talk.tick(10) == [refused(ROOMS, 401, late), refused("guest-booking-7", 401, late)]
    assert talk.subscribe(ROOMS) == [refused(ROOMS, 401, "nobody is authenticated")]
    assert talk.connection.deadline() == talk.now + 10
    # A token is still welcome.
    talk.renew(guest("7", "CHAT"))
    assert len(talk.subscribe("guest-booking-7")) == 1


def test_connection_stays_when_a_signature_proved_who_it_is_for() -> None:
    """A signed subscription is proof enough; a guarded channel without one is refused."""
    talk = Talk(PUSHER)
    talk.open()
    talk.subscribe_signed("private-x")
    talk.subscribe(ROOMS)
    assert talk.tick(10) == [refused(ROOMS, 401, "nobody authenticated in time")]
    assert talk.subscribe(ROOMS) == [refused(ROOMS, 401, "nobody is authenticated")]


def test_connection_does_not_stay_for_an_open_channel() -> None:
    """Anybody may subscribe there: it proves nothing."""
    talk = Talk(PUSHER)
    talk.open()
    talk.hear("x")
    assert talk.tick(10) == [LATE]


def test_connection_pings_and_closes_when_nothing_is_heard() -> None:
    """Our own pings every 20 s; 30 s after one that nothing answers, 4201."""
    talk = staff_talk()
    assert talk.connection.deadline() == talk.now + 20
    assert talk.tick(19.9) == []
    assert talk.tick(0.1) == [PING]
    assert talk.connection.deadline() == talk.now + 20
    assert talk.tick(20) == [PING]
    assert talk.connection.deadline() == talk.now + 10
    assert talk.tick(10) == [Close(CloseCode.NO_PONG, "nothing was heard of the client in time")]


@pytest.mark.parametrize("how", ["pusher:pong", "nonsense", "control frame"])
def test_anything_heard_keeps_the_connection(how: str) -> None:
    """Any frame shows that the client lives, a WebSocket's own pong among them."""
    talk = staff_talk()
    for _ in range(10):
        assert talk.tick(20) == [PING]
        if how == "control frame":
            talk.connection.heard(talk.now)
        else:
            talk.say(how)
    assert talk.connection.deadline() == talk.now + 20


def test_refusals_of_the_deadline_and_a_ping_that_is_due_leave_together() -> None:
    """One tick does all that is due."""
    talk = Talk(Rules(CONTRACT, require_token=False, auth_timeout_s=20))
    talk.open()
    talk.subscribe(ROOMS)
    assert talk.tick(20) == [refused(ROOMS, 401, "nobody authenticated in time"), PING]

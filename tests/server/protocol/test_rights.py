"""Rights that end while a connection lives, and those that return."""

from __future__ import annotations

from typing import Any

from auth.access import PLAIN_GRANT, Grant
from auth.apps import Limits
from auth.revocations import Revocation, Revocations, Revoked
from channels_spec.pusher import CloseCode
from server.protocol.effects import Close, Join, Leave, Regroup
from server.protocol.rules import Rules
from tests.people import APP, CONTRACT, NOW, guest, principal, staff
from tests.server.protocol.talk import ROOMS, Talk, refused

STAFF = Grant(views=(("grand", "staff"),))
FINANCE = Grant(views=(("grand", "finance"),))
REVOKED = Close(CloseCode.UNAUTHORIZED, "the token was revoked")
NO_HOTEL = "the token does not name the hotel grand"
SIGNED = "private-grand.rooms"


class Court:
    """Revocations, and a conversation with whoever they are about."""

    def __init__(self, who: Any = None, *channels: str, **more: Any) -> None:
        self.revocations = Revocations()
        rules = Rules(CONTRACT, serves_unlisted=True, revocations=self.revocations)
        self.talk = Talk(rules, **more)
        self.talk.open(who)
        for channel in channels:
            self.talk.hear(channel)

    def put(self, what: Revoked, value: str) -> None:
        """Revoke, without anybody hearing of it."""
        self.revocations.put(Revocation("id", what, value, NOW, NOW + 1000))

    def revoke(self, what: Revoked, value: str) -> list[Any]:
        """Revoke, and return what follows."""
        self.put(what, value)
        return self.talk.revoked()

    def lift(self, what: Revoked, value: str) -> list[Any]:
        """Lift a revocation, and return what follows."""
        self.revocations.lift(what, value)
        return self.talk.revoked()


def signed_by(who: Any) -> dict[str, Any]:
    """Return channel_data with a principal behind it."""
    return {"user_id": who.sub, "bellhop": who.claims()}


# --- persons -------------------------------------------------------------------------------------


def test_revoked_person_is_closed_for_good() -> None:
    """4009, after which no client comes back."""
    court = Court(staff("grand"), ROOMS)
    assert court.revoke(Revoked.SUB, "staff-1") == [REVOKED]


def test_guest_whose_stay_has_ended_is_closed() -> None:
    """By hotel and booking."""
    court = Court(guest("BK-1", "STATUS_READ"))
    assert court.revoke(Revoked.BOOKING, "ritz/BK-1") == []
    assert court.revoke(Revoked.BOOKING, "grand/BK-1") == [REVOKED]


def test_revoked_token_is_no_way_in() -> None:
    """Neither at the door, nor as a renewal, nor by a signature behind a signin."""
    court = Court()
    court.put(Revoked.SUB, "staff-1")
    assert court.talk.open(staff("grand"))[1:] == [REVOKED]
    assert court.talk.renew(staff("grand"))[1:] == [REVOKED]
    said = {"id": "staff-1", "bellhop": staff("grand").claims()}
    assert court.talk.signin(said) == [REVOKED]
    fresh = staff("grand", iat=NOW + 1)
    said = {"id": "staff-1", "bellhop": fresh.claims()}
    assert REVOKED not in court.talk.signin(said)


def test_nobody_in_particular_is_not_concerned() -> None:
    """A connection without a token has no right that could end."""
    court = Court()
    court.talk.hear("lobby")
    assert court.revoke(Revoked.SUB, "staff-1") == []
    assert court.talk.connection.channels == ["lobby"]


# --- channels ------------------------------------------------------------------------------------


def test_lost_hotel_is_told_and_given_back() -> None:
    """The socket stays, other channels too; pusher-js does not ask twice, so we let it in again."""
    court = Court(staff("grand", "ritz"), ROOMS, "ritz.rooms", "lobby")
    lost = court.revoke(Revoked.HOTEL, "grand")
    assert lost == [Leave(ROOMS), refused(ROOMS, 403, NO_HOTEL)]
    assert court.talk.connection.channels == ["ritz.rooms", "lobby"]
    assert court.talk.revoked() == []
    assert court.lift(Revoked.HOTEL, "grand") == [Join(ROOMS, STAFF)]
    assert court.talk.revoked() == []


def test_lost_role_narrows_the_view_and_widens_it_again() -> None:
    """No event goes out under a right that has ended; the narrowing is the client's own."""
    court = Court(staff({"slug": "grand", "roles": ["finance"]}), ROOMS)
    assert court.revoke(Revoked.ROLE, "finance") == [Regroup(ROOMS, STAFF)]
    assert court.revoke(Revoked.ROLE, "finance") == []
    assert court.lift(Revoked.ROLE, "finance") == [Regroup(ROOMS, FINANCE)]


def test_fresh_token_gives_back_what_was_lost() -> None:
    """One issued after the revocation is believed."""
    court = Court(staff("grand"), ROOMS)
    court.revoke(Revoked.HOTEL, "grand")
    renewed = court.talk.renew(staff("grand", iat=NOW + 1))
    assert renewed[1:] == [Join(ROOMS, STAFF)]


def test_lost_channel_that_was_left_does_not_come_back() -> None:
    """One that is asked for meanwhile is refused, and comes back like the others."""
    court = Court(staff("grand"), ROOMS, "grand.booking")
    court.revoke(Revoked.HOTEL, "grand")
    assert court.talk.unsubscribe(ROOMS) == []
    assert court.talk.subscribe("grand.booking") == [refused("grand.booking", 403, NO_HOTEL)]
    assert court.lift(Revoked.HOTEL, "grand") == [Join("grand.booking", STAFF)]
    court.revoke(Revoked.HOTEL, "grand")
    court.revocations.lift(Revoked.HOTEL, "grand")
    assert court.talk.renew(staff("grand"))[1:] == [Join("grand.booking", STAFF)]
    assert court.talk.revoked() == []


def test_lost_channel_comes_back_within_the_bound_on_subscriptions() -> None:
    """What was subscribed to in its place stays."""
    app = type(APP)(APP.id, APP.key, APP.secret, limits=Limits(max_subscriptions=1))
    court = Court(staff("grand"), ROOMS, app=app)
    court.revoke(Revoked.HOTEL, "grand")
    court.talk.hear("lobby")
    assert court.lift(Revoked.HOTEL, "grand") == []
    court.talk.unsubscribe("lobby")
    assert court.talk.revoked() == [Join(ROOMS, STAFF)]


# --- signatures ----------------------------------------------------------------------------------


def test_signed_channel_ends_with_the_right_behind_it_and_returns_with_it() -> None:
    """The signature says whose right it is; it is judged anew like the connection's own."""
    court = Court()
    asked = court.talk.subscribe_signed(SIGNED, signed_by(staff("grand")))
    assert asked == [Join(SIGNED, STAFF)]
    court.talk.arrive(SIGNED)
    assert court.revoke(Revoked.HOTEL, "ritz") == []
    assert court.revoke(Revoked.HOTEL, "grand") == [Leave(SIGNED), refused(SIGNED, 403, NO_HOTEL)]
    assert court.lift(Revoked.HOTEL, "grand") == [Join(SIGNED, STAFF)]
    court.talk.arrive(SIGNED)
    why = "the right behind the signature was revoked"
    assert court.revoke(Revoked.SUB, "staff-1") == [Leave(SIGNED), refused(SIGNED, 403, why)]
    assert court.lift(Revoked.SUB, "staff-1") == [Join(SIGNED, STAFF)]


def test_signed_channel_has_the_view_that_is_left() -> None:
    """And the wider one again."""
    court = Court()
    who = staff({"slug": "grand", "roles": ["finance"]})
    court.talk.subscribe_signed(SIGNED, signed_by(who))
    assert court.revoke(Revoked.ROLE, "finance") == [Regroup(SIGNED, STAFF)]
    assert court.revoke(Revoked.ROLE, "finance") == []
    assert court.lift(Revoked.ROLE, "finance") == [Regroup(SIGNED, FINANCE)]


def test_signature_without_a_token_behind_it_cannot_be_revoked() -> None:
    """The backend answers for it, until the socket ends."""
    court = Court()
    court.talk.subscribe_signed(SIGNED)
    court.talk.subscribe_signed("private-lobby", signed_by(principal()))
    assert court.revoke(Revoked.HOTEL, "grand") == []
    assert court.talk.connection.channels == [SIGNED, "private-lobby"]


def test_public_channel_outlives_every_revocation_but_of_the_person() -> None:
    """What was open to everybody stays open."""
    court = Court(staff("grand"))
    assert court.talk.subscribe("lobby") == [Join("lobby", PLAIN_GRANT)]
    assert court.revoke(Revoked.HOTEL, "grand") == []

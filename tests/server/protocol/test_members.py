"""Who sits on a roster when somebody else takes over the connection."""

from __future__ import annotations

from auth.access import Grant
from server.protocol.effects import Join, Leave, SignedIn
from server.protocol.presence import Member
from server.protocol.way import Way
from tests.people import staff
from tests.server.protocol.talk import PUSHER, ROOMS, Talk, recall, refused, signed_in

GRANT = Grant(views=(("grand", "staff"),))
DESK = "presence-grand.front-desk"
USER = {"id": "staff-1"}
SIGNED_IN = SignedIn("staff-1", ())


def test_member_is_replaced_when_somebody_else_takes_over() -> None:
    """One member goes and another comes: with a filter that stays, and a name of his own."""
    talk = Talk()
    talk.open(staff("grand", sub="cookie", name="Ann"), Way.COOKIE)
    talk.hear(DESK)
    assert talk.asked[DESK].member == Member("cookie", b'{"name":"Ann"}')
    talk.say("bellhop:filter", {"channel": DESK, "scope": {"room_number": ["1"]}})
    grant = Grant(views=GRANT.views, scope=(("room_number", frozenset({"1"})),))
    assert talk.signin_by_token(staff("grand", name="Zoë"), USER) == [
        signed_in(USER),
        SIGNED_IN,
        Leave(DESK),
        Join(DESK, grant),
    ]
    talk.arrive(DESK)
    assert talk.asked[DESK].member == Member("staff-1", '{"name":"Zoë"}'.encode())


def test_member_that_cannot_be_shown_is_refused_when_he_takes_over() -> None:
    """The member before him is gone; the connection and its other channels stay."""
    talk = Talk()
    talk.open(staff("grand", sub="cookie"), Way.COOKIE)
    talk.hear(DESK)
    talk.hear(ROOMS)
    assert talk.signin_by_token(staff("grand", name="😀" * 256), USER)[2:] == [
        Leave(DESK),
        refused(DESK, 403, "user_info exceeds 1024 bytes"),
        recall("sub staff-1", ROOMS),
    ]
    assert talk.connection.channels == [ROOMS]


def test_member_stays_when_the_same_subject_comes_again() -> None:
    """A fresh token is the same person: nobody goes and nobody comes."""
    talk = Talk()
    talk.open(staff("grand", name="Ann"), Way.COOKIE)
    talk.hear(DESK)
    assert talk.renew(staff("grand", name="Anne"))[1:] == []
    assert talk.renew(staff("grand", roles=["finance"]))[1:] == []


def test_member_by_signature_is_nobody_elses_affair() -> None:
    """Whom the backend named on a roster does not change with the connection's principal."""
    talk = Talk(PUSHER)
    talk.open()
    talk.subscribe_signed(DESK, {"user_id": 5})
    talk.arrive(DESK)
    assert talk.signin_by_token(staff("grand"), USER) == [
        signed_in(USER),
        SIGNED_IN,
        recall("sub staff-1", DESK),
    ]

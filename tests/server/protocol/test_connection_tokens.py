from __future__ import annotations

from typing import Any

import pytest

from auth.access import PLAIN_GRANT, Grant
from auth.errors import KeysUnavailable, TokenInvalid
from auth.principal import Principal
from channels_spec.pusher import CloseCode
from server.protocol.effects import Close, Join, Leave, Regroup, SignedIn, VerifyToken
from server.protocol.presence import Member
from server.protocol.rules import Rules
from server.protocol.way import Way
from tests.people import NOW, guest, principal, staff
from tests.server.protocol.talk import (
    JWT,
    PUSHER,
    ROOMS,
    Talk,
    authenticated,
    decoded,
    heard,
    recall,
    refused,
    signed_in,
)

GRANT = Grant(views=(("grand", "staff"),))
FINANCE = Grant(views=(("grand", "finance"),))
USER = {"id": "staff-1"}
SIGNED_IN = SignedIn("staff-1", ())
OTHERS = "the token does not name the hotel grand"
NO_TOKEN = "the signed-in user_data carries no token for guarded channels"


def unauthorized(reason: str) -> Close:
    """Return the close after which there is no use in retrying."""
    return Close(CloseCode.UNAUTHORIZED, reason)


def parked(*channels: str) -> Talk:
    """Return a conversation in which nobody is known yet and channels wait."""
    talk = Talk(PUSHER)
    talk.open()
    for channel in channels:
        assert talk.subscribe(channel) == []
    return talk


def hearing(who: Principal, *channels: str, rules: Rules = PUSHER) -> Talk:
    """Return a conversation with somebody who hears channels."""
    talk = Talk(rules)
    talk.open(who)
    for channel in channels:
        talk.hear(channel)
    return talk


# --- signin --------------------------------------------------------------------------------------


def test_signin_by_token_asks_to_verify_it() -> None:
    """What looks like a JWT is one; whose it is, the session finds out."""
    text = '{"id":"staff-1"}'
    asked = parked().say("pusher:signin", {"auth": JWT, "user_data": text})
    assert asked == [VerifyToken(JWT, text)]


def test_signin_by_token_releases_what_waited() -> None:
    """Success echoes the very user_data, then the parked channels are judged."""
    talk = parked(ROOMS, "#server-to-user-staff-1")
    assert talk.signin_by_token(staff("grand"), USER) == [
        signed_in(USER),
        SIGNED_IN,
        Join(ROOMS, GRANT),
        Join("#server-to-user-staff-1", PLAIN_GRANT),
    ]


@pytest.mark.parametrize(
    "user, reason",
    [
        ({"id": "staff-2"}, "user_data.id differs from the token's subject"),
        ({"id": "staff-1\n"}, "id in user_data contains a character that is not allowed"),
        ({"id": ""}, "id in user_data must not be empty"),
        ({}, "id in user_data must be a string or a whole number"),
        ("", "user_data is not JSON"),
        ("[" * 100, "user_data is not JSON"),
    ],
)
def test_signin_by_token_is_refused_for_another_user(user: Any, reason: str) -> None:
    """The client writes user_data: its id must be the token's subject, or there is no signin."""
    talk = parked(ROOMS)
    assert talk.signin_by_token(staff("grand"), user) == [unauthorized(reason)]
    assert talk.connection.principal is None


def test_signin_by_token_takes_no_more_than_the_id_from_the_client() -> None:
    """Whom others see on a roster is whom the token names, not what the client says of itself."""
    talk = Talk(PUSHER)
    talk.open()
    talk.signin_by_token(
        staff("grand", name="Zoë"), {"id": "staff-1", "user_info": {"name": "The Director"}}
    )
    talk.subscribe_signed("presence-x")
    talk.joined("presence-x")
    assert talk.asked["presence-x"].member == Member("staff-1", '{"name":"Zoë"}'.encode())


def test_signin_by_signature_opens_what_its_token_opens() -> None:
    """user_data that we signed carries claims: the signature makes them true."""
    user = {**USER, "bellhop": staff("grand", roles=["finance"]).claims()}
    talk = parked(ROOMS)
    assert talk.signin(user) == [signed_in(user), SIGNED_IN, Join(ROOMS, FINANCE)]
    assert talk.connection.deadline() == NOW + 20


def test_signin_without_a_token_opens_the_users_own_channel_alone() -> None:
    """A backend's own user_data: the connection stays, guarded channels are refused."""
    talk = parked(ROOMS, "#server-to-user-staff-1", "#server-to-user-other")
    assert talk.signin(USER) == [
        signed_in(USER),
        SIGNED_IN,
        refused(ROOMS, 403, NO_TOKEN),
        Join("#server-to-user-staff-1", PLAIN_GRANT),
        refused("#server-to-user-other", 403, "the channel is of another user"),
    ]
    assert talk.subscribe(ROOMS) == [refused(ROOMS, 403, NO_TOKEN)]
    assert talk.tick(10) == []


@pytest.mark.parametrize(
    "auth, reason",
    [
        ("", "signin: auth must have the form KEY:SIGNATURE"),
        ("other:00", "signin: auth was made with the key of another app"),
        ("app-key:00", "signin: auth signature does not match"),
        ("app-key:00.00.00", "signin: auth signature does not match"),
    ],
)
def test_signin_is_refused_with_a_wrong_signature(auth: str, reason: str) -> None:
    """There is no use in retrying it: 4009."""
    data = {"auth": auth, "user_data": '{"id":"staff-1"}'}
    assert parked().say("pusher:signin", data) == [unauthorized(reason)]


@pytest.mark.parametrize(
    "user, reason",
    [
        ("x", "signin: user_data is not JSON"),
        ({}, "signin: id in user_data must be a string"),
        ({"id": 7}, "signin: id in user_data must be a string"),
        ({"id": "a b"}, "signin: id in user_data may have A-Z a-z 0-9"),
        ({**USER, "bellhop": {"exp": NOW}}, "signin: the token has expired"),
        ({**USER, "bellhop": {"exp": NOW + 9, "kind": None}}, 'signin: claim "kind" must be one'),
    ],
)
def test_signin_is_refused_when_what_is_signed_makes_no_sense(user: Any, reason: str) -> None:
    """The app signed it, yet it names nobody, or claims that are no longer or never were good."""
    (close,) = parked().signin(user)
    assert close.code is CloseCode.UNAUTHORIZED
    assert close.reason.startswith(reason)


def test_signin_takes_a_tokens_subject_as_the_issuer_made_it() -> None:
    """Issuers write `auth0|1`: by the token itself, and by what this server signed for it."""
    who = staff("grand", sub="auth0|1")
    for user in ({"id": who.sub}, {"id": who.sub, "bellhop": who.claims()}):
        talk = parked(ROOMS)
        signin = talk.signin(user) if "bellhop" in user else talk.signin_by_token(who, user)
        signed_in_as = SignedIn(who.sub, ())
        assert signin == [signed_in(user), signed_in_as, Join(ROOMS, GRANT)]


def test_signin_of_the_same_user_again_succeeds() -> None:
    """With a fresh token it renews; without one what is known stays known."""
    talk = hearing(staff("grand"), ROOMS)
    for _ in range(2):
        assert talk.signin_by_token(staff("grand"), USER) == [signed_in(USER), SIGNED_IN]
    assert talk.signin(USER) == [signed_in(USER), SIGNED_IN]
    assert talk.subscribe("grand.booking") == [Join("grand.booking", GRANT)]


def test_signin_of_another_user_is_refused() -> None:
    """A connection that is one user's stays that user's, whichever way the other comes."""
    talk = hearing(staff("grand"))
    talk.signin(USER)
    other = unauthorized("the connection is signed in as another user")
    assert talk.signin({"id": "staff-2"}) == [other]
    assert talk.signin_by_token(staff("grand", sub="staff-2"), {"id": "staff-2"}) == [other]
    assert talk.connection.principal == staff("grand")


def test_signin_replaces_a_lighter_way() -> None:
    """A signin weighs more than a cookie: what is heard by right of the cookie is judged anew."""
    talk = Talk()
    talk.open(staff("grand", "sea-view", sub="cookie"), Way.COOKIE)
    talk.hear(ROOMS)
    talk.hear("sea-view.rooms")
    assert talk.signin_by_token(staff("grand", roles=["admin"]), USER) == [
        signed_in(USER),
        SIGNED_IN,
        Regroup(ROOMS, FINANCE),
        Leave("sea-view.rooms"),
        refused("sea-view.rooms", 403, "the token does not name the hotel sea-view"),
        recall("sub staff-1", ROOMS),
    ]
    assert talk.connection.principal == staff("grand", roles=["admin"])
    # The cookie cannot take it back.
    talk.open(staff("sea-view", sub="cookie"), Way.COOKIE)
    assert talk.connection.principal == staff("grand", roles=["admin"])


# --- renewal -------------------------------------------------------------------------------------


def test_renewal_asks_to_verify_the_token() -> None:
    """`bellhop:auth` carries nothing but the token."""
    assert parked().say("bellhop:auth", {"token": JWT}) == [VerifyToken(JWT, None)]


def test_renewal_tells_the_new_end() -> None:
    """Answered by `bellhop:authenticated`, never by signin_success, however the token came."""
    fresh = principal(exp=NOW + 7200, hotels=["grand"])
    for way in (Way.COOKIE, Way.PATH, Way.HEADER):
        talk = Talk(spread=0.5)
        talk.open(staff("grand"), way)
        assert talk.renew(fresh) == [authenticated(NOW + 7200)]
    talk = Talk()
    talk.open()
    talk.signin_by_token(staff("grand"), USER)
    assert talk.renew(fresh) == [authenticated(NOW + 7200)]


def test_renewal_is_the_first_authentication_when_nobody_is_known() -> None:
    """A client may bring its token as an event instead of signing in."""
    fresh = staff("grand")
    assert parked(ROOMS).renew(fresh) == [authenticated(fresh.exp), Join(ROOMS, GRANT)]


def test_renewal_by_another_subject_is_refused() -> None:
    """A fresh token of somebody else is no renewal: 4009, and nothing changes hands."""
    talk = hearing(staff("grand"), ROOMS)
    assert talk.renew(staff("grand", sub="staff-2")) == [
        unauthorized("the fresh token is of another subject")
    ]
    assert talk.connection.principal == staff("grand")


@pytest.mark.parametrize("event", ["pusher:signin", "bellhop:auth"])
def test_bad_token_closes(event: str) -> None:
    """What was presented explicitly and is bad ends the connection, with the reason."""
    talk = parked()
    data = {"token": JWT, "auth": JWT, "user_data": "{}"}
    assert isinstance(talk.say(event, data)[0], VerifyToken)
    effects = talk.connection.token_refused(TokenInvalid("the signature does not match"))
    assert decoded(effects) == [unauthorized("the signature does not match")]


def test_renewal_that_changes_hotels_judges_everything_anew() -> None:
    """What the fresh token no longer opens ends with an error, what it opens otherwise moves."""
    talk = hearing(
        staff("grand", "sea-view", {"slug": "annex", "id": 1}),
        ROOMS,
        "sea-view.rooms",
        "staff-hotel-1",
        "guest-booking-7",
        "x",
    )
    talk.subscribe_signed("private-grand.booking")
    fresh = staff({"slug": "sea-view", "roles": ["manager"]}, "new")
    assert talk.renew(fresh) == [
        authenticated(fresh.exp),
        Leave(ROOMS),
        refused(ROOMS, 403, OTHERS),
        Regroup("sea-view.rooms", Grant(views=(("sea-view", "finance"),))),
        Leave("staff-hotel-1"),
        refused("staff-hotel-1", 403, "the token names no hotel with the id 1"),
        Regroup("guest-booking-7", Grant(views=(("new", "guest"), ("sea-view", "guest")))),
    ]
    # What the principal has no part in stays: an open channel, and what a signature opened.
    assert talk.connection.channels == [
        "sea-view.rooms",
        "guest-booking-7",
        "x",
        "private-grand.booking",
    ]


def test_right_that_is_lost_while_joining_is_lost() -> None:
    """A subscription that has not joined yet leaves at once, and never succeeds."""
    talk = Talk()
    talk.open(staff("grand"))
    talk.subscribe(ROOMS)
    assert talk.renew(staff("sea-view"))[1:] == [Leave(ROOMS), refused(ROOMS, 403, OTHERS)]
    assert talk.joined(ROOMS) == []
    assert talk.connection.channels == []


def test_right_that_is_lost_while_entering_is_lost() -> None:
    """What the broker has let in meanwhile is not told, and not admitted."""
    talk = Talk()
    talk.open(staff("grand"))
    talk.subscribe(ROOMS)
    talk.joined(ROOMS)
    assert talk.renew(staff("sea-view"))[1:] == [Leave(ROOMS), refused(ROOMS, 403, OTHERS)]
    assert talk.entered(ROOMS) == []


def test_right_that_changes_on_the_way_in_is_the_new_one() -> None:
    """The fan-out is told at once, however far the subscription has come."""
    for far in ("joining", "entering"):
        talk = Talk()
        talk.open(staff("grand", roles=["finance"]))
        talk.subscribe(ROOMS)
        if far == "entering":
            talk.joined(ROOMS)
        assert talk.renew(staff("grand"))[1:] == [Regroup(ROOMS, GRANT)]


def test_right_that_is_lost_while_joining_cannot_be_asked_back() -> None:
    """A channel asked for again is judged again, by who speaks now."""
    talk = Talk()
    talk.open(staff("grand"))
    talk.subscribe(ROOMS)
    talk.renew(staff("sea-view"))
    assert talk.subscribe(ROOMS) == [refused(ROOMS, 403, OTHERS)]
    assert talk.joined(ROOMS) == []


def test_channel_asked_for_again_is_heard_by_the_new_right() -> None:
    """What was left on its way in comes back as something new."""
    talk = Talk()
    talk.open(staff("grand", roles=["finance"]))
    talk.subscribe(ROOMS)
    talk.unsubscribe(ROOMS)
    # What the client has left is nothing to be told of.
    assert talk.renew(staff("grand"))[1:] == []
    assert talk.subscribe(ROOMS) == [Join(ROOMS, GRANT)]
    assert talk.arrive(ROOMS) == heard(ROOMS)


def test_renewal_changes_nothing_when_the_rights_are_the_same() -> None:
    """An unchanged grant moves nobody."""
    talk = hearing(staff("grand"), ROOMS, "guest-booking-7")
    fresh = staff("grand", exp=NOW + 9000)
    assert talk.renew(fresh) == [authenticated(fresh.exp)]


def test_renewal_of_a_guest_follows_its_booking_and_scopes() -> None:
    """Another booking ends the old one's channel; another scope changes the view."""
    talk = Talk()
    talk.open(guest("7", "STATUS_READ"))
    talk.hear("guest-booking-7")
    both = guest("7", "STATUS_READ", "CHAT")
    grant = Grant(views=(("grand", "guest"),), no_hotel="guest")
    assert talk.renew(both)[1:] == [Regroup("guest-booking-7", grant)]
    claims: dict[str, Any] = {"kind": "guest", "hotels": ["grand"], "scope": ["CHAT"]}
    moved = principal("guest-7", booking_id="8", **claims)
    assert talk.renew(moved)[1:] == [
        Leave("guest-booking-7"),
        refused("guest-booking-7", 403, "the token is for another booking"),
    ]


def test_token_whose_key_cannot_be_had_may_be_tried_again() -> None:
    """4100, after which clients come back; any other refusal is for good."""
    talk = parked()
    error = KeysUnavailable("the issuer does not answer")
    assert talk.connection.token_refused(error) == [
        Close(CloseCode.OVER_CAPACITY, "the issuer does not answer")
    ]

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.access import PLAIN_GRANT, Grant, Refusal, decide, least_grant
from auth.principal import Principal
from channels_spec.contract import ChannelMatch
from tests import oracle
from tests.people import guest, match, principal, service, staff

SHARED_ID = [
    {"slug": "grand", "id": 1, "roles": ["front_desk"]},
    {"slug": "annex", "id": 1, "roles": ["manager"]},
    {"slug": "sea-view", "id": 2, "roles": ["admin"]},
]

GRANTED: list[tuple[Principal, str, Grant]] = [
    # Channels named by slug: staff of that hotel, in the view of their roles there.
    (staff("grand"), "grand.rooms", Grant(views=(("grand", "staff"),))),
    (staff("grand"), "private-grand.rooms", Grant(views=(("grand", "staff"),))),
    (staff("a", "grand", roles=["finance"]), "grand.booking", Grant((("grand", "finance"),))),
    (staff("grand", roles=["manager"]), "grand.room-bookings", Grant((("grand", "finance"),))),
    (staff("grand", roles=["admin"]), "presence-grand.desk", Grant((("grand", "staff"),))),
    (
        staff({"slug": "grand", "roles": []}, roles=["finance"]),
        "grand.rooms",
        Grant((("grand", "staff"),)),
    ),
    (service("grand"), "grand.rooms", Grant((("grand", "staff"),))),
    (service(), "grand.rooms", Grant((("grand", "staff"),))),
    (service(roles=["admin"]), "grand.rooms", Grant((("grand", "finance"),))),
    # The staff feed: hotels of the token with that id, and bodies that name none.
    (
        staff({"slug": "grand", "id": 1}),
        "staff-hotel-1",
        Grant(views=(("grand", "staff"),), no_hotel="staff"),
    ),
    (
        staff(*SHARED_ID),
        "staff-hotel-1",
        Grant(views=(("annex", "finance"), ("grand", "staff")), no_hotel="staff"),
    ),
    (
        staff(*SHARED_ID),
        "staff-hotel-2",
        Grant(views=(("sea-view", "finance"),), no_hotel="finance"),
    ),
    (service(), "staff-hotel-1", Grant(any_hotel="staff", no_hotel="staff")),
    (
        service(roles=["finance"]),
        "staff-hotel-1",
        Grant(any_hotel="finance", no_hotel="finance"),
    ),
    # A guest's own booking, by scope; staff of its hotel, never without one.
    (
        guest("7", "STATUS_READ"),
        "guest-booking-7",
        Grant(views=(("grand", "guest-status"),), no_hotel="guest-status"),
    ),
    (
        guest("7", "CHAT"),
        "private-guest-booking.7",
        Grant(views=(("grand", "guest-chat"),), no_hotel="guest-chat"),
    ),
    (
        guest("7", "STATUS_READ", "CHAT", "ROOM_SERVICE"),
        "guest-booking-7",
        Grant(views=(("grand", "guest"),), no_hotel="guest"),
    ),
    (
        staff("sea-view", "grand"),
        "guest-booking-7",
        Grant((("grand", "guest"), ("sea-view", "guest"))),
    ),
    (staff("grand", roles=["admin"]), "guest-booking-7", Grant((("grand", "guest"),))),
    (service("grand"), "guest-booking-7", Grant((("grand", "guest"),))),
    (service(roles=["admin"]), "guest-booking-7", Grant(any_hotel="guest")),
    # Staff chat: one's own, still of the hotels of the token.
    (staff("grand", sub="12"), "staff-chat-12", Grant((("grand", "staff"),))),
    (staff("b", "a", staff_id=12), "staff-chat-12", Grant((("a", "staff"), ("b", "staff")))),
    (staff("grand", conversations=[5]), "staff-chat-conversation-5", Grant((("grand", "staff"),))),
    (service("grand"), "staff-chat-12", Grant((("grand", "staff"),))),
    (service("grand"), "staff-chat-conversation-5", Grant((("grand", "staff"),))),
    (service(), "staff-chat-12", Grant(any_hotel="staff")),
    (
        replace(service(), lost_hotels=frozenset({"grand"})),
        "staff-hotel-1",
        Grant(any_hotel="staff", lost_hotels=frozenset({"grand"})),
    ),
    (
        replace(service(), lost_hotels=frozenset({"grand"})),
        "guest-booking-7",
        Grant(any_hotel="guest", lost_hotels=frozenset({"grand"})),
    ),
    (
        replace(service(), lost_hotels=frozenset({"grand"})),
        "staff-chat-12",
        Grant(any_hotel="staff", lost_hotels=frozenset({"grand"})),
    ),
    (
        replace(service(), lost_hotels=frozenset({"grand"})),
        "ritz.rooms",
        Grant((("ritz", "staff"),)),
    ),
    (service(roles=["admin"]), "staff-chat-conversation-5", Grant(any_hotel="staff")),
]

LOST = frozenset({"grand"})
GUESTS = "guests may not hear staff channels"
NO_HOTEL = "the token names no hotel"
REFUSED = [
    (staff("sea-view"), "grand.rooms", "the token does not name the hotel grand"),
    (staff("Grand"), "grand.rooms", "the token does not name the hotel grand"),
    (staff(roles=["admin"]), "grand.rooms", "the token does not name the hotel grand"),
    (service("sea-view"), "private-grand.rooms", "the token does not name the hotel grand"),
    (guest("7", "CHAT"), "grand.rooms", GUESTS),
    (guest("7", "CHAT"), "presence-grand.desk", GUESTS),
    (guest("7", "CHAT"), "staff-hotel-1", GUESTS),
    (staff("grand"), "staff-hotel-1", "the token names no hotel with the id 1"),
    (staff(*SHARED_ID), "staff-hotel-01", "the token names no hotel with the id 01"),
    (service("grand"), "staff-hotel-1", "the token names no hotel with the id 1"),
    (guest("7", "CHAT"), "guest-booking-8", "the token is for another booking"),
    (guest("BK-7", "CHAT"), "guest-booking-bk-7", "the token is for another booking"),
    (guest("7"), "guest-booking-7", "the token lacks the scope STATUS_READ"),
    (guest("7", "ROOM_SERVICE"), "guest-booking-7", "the token lacks the scope STATUS_READ"),
    (staff(booking_id="7", scope=["CHAT"]), "guest-booking-7", NO_HOTEL),
    (
        replace(guest("7", "STATUS_READ"), hotels=()),
        "guest-booking-7",
        "the right to the token's hotel has ended",
    ),
    (
        replace(service(), lost_hotels=LOST),
        "grand.rooms",
        "the token does not name the hotel grand",
    ),
    (staff("grand"), "staff-chat-12", "staff-chat-12 is another staff member's"),
    (staff("grand", sub="12", staff_id="9"), "staff-chat-12", "staff-chat-12 is another staff"),
    (guest("7", "CHAT", staff_id="12"), "staff-chat-12", "staff-chat-12 is another staff member's"),
    (staff("grand"), "staff-chat-conversation-5", "staff-chat-conversation-5 is a conversation of"),
    (guest("7", conversations=[5]), "staff-chat-conversation-5", "staff-chat-conversation-5 is a"),
    (staff(sub="12"), "staff-chat-12", NO_HOTEL),
    (staff(conversations=[5]), "staff-chat-conversation-5", NO_HOTEL),
    (principal(kind="service"), "staff-chat-12", NO_HOTEL),
]


@pytest.mark.parametrize("who, channel, grant", GRANTED)
def test_access_is_granted_with_the_view_of_each_hotel(
    who: Principal, channel: str, grant: Grant
) -> None:
    """Whoever the contract names for a family hears it, in the view of the roles at each hotel."""
    assert decide(who, match(channel)) == grant


@pytest.mark.parametrize("who, channel, reason", REFUSED)
def test_access_is_refused_saying_why(who: Principal, channel: str, reason: str) -> None:
    """Everybody else is refused: known, but not for this channel."""
    decision = decide(who, match(channel))
    assert isinstance(decision, Refusal)
    assert decision.status == 403
    assert decision.reason.startswith(reason)


def for_roles(channel: str, *roles: str) -> ChannelMatch:
    """Return a channel's match where its family names roles."""
    found = match(channel)
    return replace(found, family=replace(found.family, roles=frozenset(roles)))


KEEPERS = [
    {"slug": "grand", "id": 1, "roles": ["housekeeping", "manager"]},
    {"slug": "annex", "id": 1, "roles": ["front_desk", "admin"]},
    {"slug": "sea-view", "id": 2, "roles": ["housekeeping"]},
]
IN_ROLES: list[tuple[Principal, str, Grant]] = [
    # The role counts in the hotel that the channel is of, and the view is still of all roles there.
    (staff(*KEEPERS), "grand.rooms", Grant((("grand", "finance"),))),
    (staff(*KEEPERS), "private-sea-view.rooms", Grant((("sea-view", "staff"),))),
    (staff("grand", roles=["housekeeping"]), "presence-grand.desk", Grant((("grand", "staff"),))),
    (service("grand", roles=["housekeeping"]), "grand.rooms", Grant((("grand", "staff"),))),
    (service(roles=["housekeeping"]), "grand.rooms", Grant((("grand", "staff"),))),
    # Where the name has no slug, the other hotels are left out, of events without one too.
    (staff(*KEEPERS), "staff-hotel-1", Grant((("grand", "finance"),), no_hotel="finance")),
    (service(roles=["housekeeping"]), "staff-hotel-1", Grant(any_hotel="staff", no_hotel="staff")),
    (staff(*KEEPERS), "guest-booking-7", Grant((("grand", "guest"), ("sea-view", "guest")))),
    (
        staff(*KEEPERS, sub="12"),
        "staff-chat-12",
        Grant((("grand", "staff"), ("sea-view", "staff"))),
    ),
    (service(roles=["housekeeping"]), "staff-chat-12", Grant(any_hotel="staff")),
    # A guest has no roles, and hears their own booking all the same.
    (
        guest("7", "STATUS_READ", "CHAT"),
        "guest-booking-7",
        Grant(views=(("grand", "guest"),), no_hotel="guest"),
    ),
]
NEEDED = "needs one of the roles housekeeping at its hotel"
NOT_IN_ROLES = [
    (staff(*KEEPERS), "annex.rooms", f"annex.rooms {NEEDED}"),
    (
        staff({"slug": "grand", "roles": []}, roles=["housekeeping"]),
        "grand.rooms",
        f"grand.rooms {NEEDED}",
    ),
    (service(roles=["admin"]), "grand.rooms", f"grand.rooms {NEEDED}"),
    (service(roles=["admin"]), "staff-hotel-1", f"staff-hotel-1 {NEEDED}"),
    (service(roles=["admin"]), "staff-chat-12", f"staff-chat-12 {NEEDED}"),
    (service(), "guest-booking-7", f"guest-booking-7 {NEEDED}"),
    (service("grand"), "staff-chat-conversation-5", f"staff-chat-conversation-5 {NEEDED}"),
    (staff(KEEPERS[1]), "staff-hotel-1", f"staff-hotel-1 {NEEDED}"),
    (staff("grand"), "guest-booking-7", f"guest-booking-7 {NEEDED}"),
    (staff("grand", conversations=[5]), "staff-chat-conversation-5", "staff-chat-conversation-5 n"),
    # Whoever may not hear it anyway is told that, and not that a role would do.
    (staff(*KEEPERS), "other.rooms", "the token does not name the hotel other"),
    (staff(*KEEPERS), "staff-chat-12", "staff-chat-12 is another staff member's"),
    (guest("7", "CHAT"), "grand.rooms", GUESTS),
    (guest("7", "CHAT"), "guest-booking-8", "the token is for another booking"),
]


@pytest.mark.parametrize("who, channel, grant", IN_ROLES)
def test_access_is_granted_for_the_hotels_where_one_has_a_role_of_the_family(
    who: Principal, channel: str, grant: Grant
) -> None:
    """Where a family names roles, staff and operators hear the hotels where they have one."""
    assert decide(who, for_roles(channel, "housekeeping")) == grant


@pytest.mark.parametrize("who, channel, reason", NOT_IN_ROLES)
def test_access_is_refused_naming_the_roles(who: Principal, channel: str, reason: str) -> None:
    """Who would hear it, but for a role, is told which; a role elsewhere does not count."""
    decision = decide(who, for_roles(channel, "housekeeping"))
    assert isinstance(decision, Refusal)
    assert decision.status == 403
    assert decision.reason.startswith(reason)


def test_access_needs_only_one_of_the_roles() -> None:
    """Any does, and a refusal names all of them."""
    match = for_roles("grand.rooms", "manager", "front_desk", "unheard-of")
    assert decide(staff("grand", roles=["front_desk"]), match) == Grant((("grand", "staff"),))
    needed = "grand.rooms needs one of the roles front_desk, manager, unheard-of at its hotel"
    assert decide(staff("grand", roles=["admin"]), match) == Refusal(403, needed)


@settings(max_examples=250)
@given(
    oracle.claims(),
    st.sampled_from(oracle.CHANNELS),
    st.sets(st.sampled_from(["housekeeping", "manager", "front_desk"]), min_size=1),
)
def test_access_with_roles_is_that_of_a_token_without_the_other_hotels(
    claims: dict[str, Any], channel: str, roles: set[str]
) -> None:
    """For any token: hotels where it has none of the family's roles might as well not be in it."""
    decision = decide(principal(**claims), for_roles(channel, *roles))
    grant = decision if isinstance(decision, Grant) else Grant()
    hotels = claims["hotels"]
    if claims["kind"] != "guest":
        entries = hotels if hotels != "*" else []
        kept = [each for each in entries if roles & set(each.get("roles", claims["roles"]))]
        everywhere = hotels == "*" and roles & set(claims["roles"])
        claims = {**claims, "hotels": "*" if everywhere else kept}
    for hotel in ("", *oracle.HOTELS, "elsewhere"):
        assert grant.view_for(hotel) == oracle.view(claims, channel, hotel)


@settings(max_examples=250)
@given(oracle.claims(), st.sampled_from(oracle.CHANNELS))
def test_access_agrees_with_the_rules_read_a_second_time(
    claims: dict[str, Any], channel: str
) -> None:
    """For any token, channel and hotel, an event is seen exactly as the contract says."""
    decision = decide(principal(**claims), match(channel))
    grant = decision if isinstance(decision, Grant) else Grant()
    hotels = ("", *oracle.HOTELS, "elsewhere")
    seen = {hotel: grant.view_for(hotel) for hotel in hotels}
    assert seen == {hotel: oracle.view(claims, channel, hotel) for hotel in hotels}
    # Whoever would hear nothing at all is told so, instead of waiting in silence.
    assert isinstance(decision, Refusal) is (set(seen.values()) == {None})


def test_view_for_falls_back_to_any_hotel_but_never_for_none() -> None:
    """A hotel of its own goes first; an event of no hotel is not one of any hotel."""
    grant = Grant(views=(("a", "x"),), any_hotel="y")
    assert [grant.view_for(slug) for slug in ("a", "b", "")] == ["x", "y", None]
    assert [PLAIN_GRANT.view_for(slug) for slug in ("a", "")] == [None, "plain"]
    assert Grant().view_for("a") is None


@pytest.mark.parametrize(
    "channel, grant",
    [
        ("private-grand.rooms", Grant(views=(("grand", "staff"),))),
        ("presence-grand.desk", Grant(views=(("grand", "staff"),))),
        ("private-guest-booking.7", Grant(any_hotel="guest", no_hotel="guest")),
    ],
)
def test_least_grant_is_the_least_view_of_one_channel(channel: str, grant: Grant) -> None:
    """A signature that says nothing of its holder opens the view that no role is needed for."""
    assert least_grant(match(channel)) == grant


def test_grants_are_one_fan_out_group_when_they_are_equal() -> None:
    """The order of a token's hotels makes no second group of the same right."""
    one = decide(staff("a", "b"), match("guest-booking-7"))
    other = decide(staff("b", "a", sub="x"), match("guest-booking-7"))
    assert one == other
    assert hash(one) == hash(other)

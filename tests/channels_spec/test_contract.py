from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.errors import TokenInvalid
from channels_spec.contract import Audience, ChannelFamily
from tests.people import CONTRACT, match, staff

STAFF_VIEWS = ("staff", "finance")

# Family: address, audience, categories, views.
FAMILIES = {
    "roomBookings": (
        "{hotel_slug}.room-bookings",
        Audience.HOTEL_STAFF,
        {"room_booking"},
        STAFF_VIEWS,
    ),
    "rooms": ("{hotel_slug}.rooms", Audience.HOTEL_STAFF, {"rooms"}, STAFF_VIEWS),
    "otherBookings": ("{hotel_slug}.booking", Audience.HOTEL_STAFF, {"booking"}, STAFF_VIEWS),
    "staffHotel": (
        "staff-hotel-{hotel_id}",
        Audience.HOTEL_STAFF_BY_ID,
        {"room_booking", "rooms", "room_service"},
        STAFF_VIEWS,
    ),
    "privateGuestBooking": (
        "private-guest-booking.{booking_id}",
        Audience.BOOKING_GUEST,
        {"guest_booking", "chat"},
        ("guest",),
    ),
    "guestBooking": (
        "guest-booking-{booking_id}",
        Audience.BOOKING_GUEST,
        {"guest_booking", "chat"},
        ("guest",),
    ),
    "staffChat": ("staff-chat-{staff_id}", Audience.STAFF_MEMBER, {"staff_chat"}, ("staff",)),
    "staffChatConversation": (
        "staff-chat-conversation-{conversation_id}",
        Audience.CONVERSATION_MEMBERS,
        {"staff_chat"},
        ("staff",),
    ),
    "roster": ("presence-{hotel_slug}.{area}", Audience.HOTEL_STAFF, set(), ("staff",)),
}

GUEST = ("privateGuestBooking", "guestBooking")
# Event: the families that carry it.
EVENTS = {
    "booking_created": ("roomBookings", "staffHotel"),
    "booking_confirmed": ("roomBookings", "staffHotel", *GUEST),
    "booking_updated": ("roomBookings", "staffHotel"),
    "booking_party_updated": ("roomBookings",),
    "booking_cancelled": ("roomBookings", "staffHotel", *GUEST),
    "booking_checked_in": ("roomBookings", "staffHotel", *GUEST),
    "booking_checked_out": ("roomBookings", "staffHotel", *GUEST),
    "integrity_healed": ("roomBookings",),
    "party_healed": ("roomBookings",),
    "guests_healed": ("roomBookings",),
    "room_updated": ("rooms", "staffHotel"),
    "rooms_updated": ("rooms",),
    "room_occupancy_updated": ("rooms", "staffHotel"),
    "room_status_changed": ("rooms",),
    "room_status_updated": ("staffHotel",),
    "room_deleted": ("staffHotel", "rooms"),
    "room_assigned": ("staffHotel",),
    "booking_room_assigned": GUEST,
    "room_service_order_created": ("staffHotel",),
    "chat_message_created": GUEST,
    "staff_chat_message_created": ("staffChatConversation",),
    "staff_chat_message_edited": ("staffChatConversation",),
    "staff_chat_message_deleted": ("staffChatConversation",),
    "staff_chat_unread_updated": ("staffChat",),
}

ALWAYS = {"status", "checked_in_at", "checked_out_at", "hotel_slug"}
# Guest event: its synonyms, and every payload field that leaves.
GUEST_EVENTS = {
    "booking_confirmed": ({"confirmed"}, {"booking_id", "confirmed_at"} | ALWAYS),
    "booking_cancelled": (set(), {"booking_id", "cancelled_at", "cancellation_reason"} | ALWAYS),
    "booking_checked_in": ({"checked_in"}, {"booking_id", "room_number"} | ALWAYS),
    "booking_checked_out": ({"checked_out"}, {"booking_id", "room_number"} | ALWAYS),
    "booking_room_assigned": ({"room_assigned"}, {"booking_id", "room_number"} | ALWAYS),
    "chat_message_created": (
        set(),
        {"message_id", "body", "created_at", "sender", "conversation_id", "hotel_slug"},
    ),
}

MATCHES = [
    ("hotel-killarney.rooms", "rooms", {"hotel_slug": "hotel-killarney"}),
    ("private-hotel-killarney.rooms", "rooms", {"hotel_slug": "hotel-killarney"}),
    ("H_1.room-bookings", "roomBookings", {"hotel_slug": "H_1"}),
    ("private-h.booking", "otherBookings", {"hotel_slug": "h"}),
    ("guest-booking-7.rooms", "rooms", {"hotel_slug": "guest-booking-7"}),
    ("guest-bookings.rooms", "rooms", {"hotel_slug": "guest-bookings"}),
    ("staff-hotel-17", "staffHotel", {"hotel_id": "17"}),
    ("private-guest-booking.BK-2025-0001", "privateGuestBooking", {"booking_id": "BK-2025-0001"}),
    ("private-guest-booking.rooms", "privateGuestBooking", {"booking_id": "rooms"}),
    ("guest-booking-BK-2025-0001", "guestBooking", {"booking_id": "BK-2025-0001"}),
    ("staff-chat-12", "staffChat", {"staff_id": "12"}),
    ("staff-chat-a.b@c", "staffChat", {"staff_id": "a.b@c"}),
    ("staff-chat-conversation-12", "staffChatConversation", {"conversation_id": "12"}),
    ("staff-chat-conversation", "staffChat", {"staff_id": "conversation"}),
    ("presence-h.front-desk", "roster", {"hotel_slug": "h", "area": "front-desk"}),
    ("presence-h.rooms", "roster", {"hotel_slug": "h", "area": "rooms"}),
]

OUTSIDE = [
    "",
    "rooms",
    ".rooms",
    "hotel.rooms\n",
    "\nhotel.rooms",
    "hotel.roomsx",
    "hotel.rooms.rooms",
    "hotel--x.rooms",
    "-hotel.rooms",
    "hotel-.rooms",
    "hôtel.rooms",
    "hotel٣.rooms",
    "hotel.front-desk",
    "private-private-hotel.rooms",
    "presence-private-hotel.area",
    "presence-hotel.Area",
    "presence-hotel.area1",
    "presence-guest-booking.area",
    "cache-hotel.rooms",
    "staff-x.rooms",
    "guest-booking.rooms",
    "guest-booking.7",
    "private-presence-x.rooms",
    "staff-hotel-",
    "staff-hotel-1.2",
    "staff-hotel-1\n",
    "staff-hotel-١",
    "private-staff-hotel-1",
    "staff-chat-",
    "private-guest-booking.",
    "private-guest-booking.1.2",
    "guest-booking-",
    "guest-booking-1.2",
    "private-guest-booking-7",
]


def family(name: str) -> ChannelFamily:
    """Return a family of the hotel contract by its name."""
    return next(family for family in CONTRACT.families if family.name == name)


def test_contract_has_the_families_of_the_hotel_contract() -> None:
    """Every family stands there with its audience, its categories and its views, and no other."""
    assert {
        family.name: (
            family.address,
            family.audience,
            set(family.categories),
            tuple(view.name for view in family.views),
        )
        for family in CONTRACT.families
    } == FAMILIES
    assert CONTRACT.title
    assert CONTRACT.roles == {"finance", "manager", "admin"}


def test_families_say_how_they_are_guarded() -> None:
    """Which are named by slug, for guests, twins and rosters follows the contract's table."""
    families = CONTRACT.families
    by_slug = {"roomBookings", "rooms", "otherBookings", "roster"}
    assert {family.name for family in families if family.named_by_slug} == by_slug
    assert {family.name for family in families if family.for_guests} == set(GUEST)
    assert {family.name for family in families if family.private_twin} == by_slug - {"roster"}
    assert {family.name for family in families if family.roster} == {"roster"}
    assert {family.name for family in families if family.unlisted} == {"otherBookings"}


def test_events_are_those_of_the_hotel_contract() -> None:
    """Every event is carried by exactly the families of its row."""
    carried: dict[str, set[str]] = {}
    for each in CONTRACT.families:
        for spec in each.events.values():
            carried.setdefault(spec.name, set()).add(each.name)
    assert carried == {name: set(families) for name, families in EVENTS.items()}


@pytest.mark.parametrize("name", GUEST)
def test_guest_events_let_only_listed_fields_leave(name: str) -> None:
    """Each guest event has its synonyms, and exactly the fields that a guest may get."""
    events = family(name).events
    by_spec: dict[str, set[str]] = {spec.name: set() for spec in events.values()}
    for key, spec in events.items():
        by_spec[spec.name] |= {key} - {spec.name}
    assert {
        name: (synonyms, set(events[name].fields)) for name, synonyms in by_spec.items()
    } == GUEST_EVENTS
    scopes = {spec.name: spec.guest_scope for spec in events.values()}
    assert scopes.pop("chat_message_created") == "CHAT"
    assert set(scopes.values()) == {"STATUS_READ"}


@pytest.mark.parametrize("each", CONTRACT.families, ids=lambda each: each.name)
def test_views_withhold_payment_from_whoever_is_not_of_finance(each: ChannelFamily) -> None:
    """A view that no role opens withholds the payment fields; roles open only the other one."""
    least, *fuller = each.views
    assert least.roles == frozenset()
    assert set(least.withhold) == {"payment", "payments", "payment_*", "deposit*", "card_last4"}
    for view in fuller:
        assert view.roles == {"finance", "manager", "admin"}
        assert view.withhold == ()


@pytest.mark.parametrize("channel, name, parameters", MATCHES)
def test_match_names_the_family_and_what_the_name_says(
    channel: str, name: str, parameters: dict[str, str]
) -> None:
    """A channel is of the most specific family whose address it matches, read off its name."""
    found = match(channel)
    assert (found.channel, found.family.name, found.parameters) == (channel, name, parameters)
    assert found.hotel_slug == parameters.get("hotel_slug", "")
    assert found.subject == next(iter(parameters.values()))


@pytest.mark.parametrize("channel", OUTSIDE)
def test_match_is_none_outside_the_contract(channel: str) -> None:
    """A name that differs by a newline, a script, a dash or a prefix is no contract channel."""
    assert CONTRACT.match(channel) is None


def token_takes(slug: str) -> bool:
    """Whether a token may name a hotel of this slug."""
    try:
        return staff(slug).hotels[0].slug == slug
    except TokenInvalid:
        return False


SLUGS = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"[A-Za-z0-9_]{1,4}(-[A-Za-z0-9_]{1,4}){0,2}", fullmatch=True),
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                ["private", "presence", "cache", "staff", "guest", "booking", "-", ".", "7", "\n"]
            ),
            max_size=6,
        ),
    ),
)


@given(SLUGS, st.sampled_from(["", "private-"]), st.sampled_from(["room-bookings", "rooms"]))
def test_match_reads_a_slug_exactly_where_a_token_may_hold_it(
    slug: str, twin: str, area: str
) -> None:
    """Tokens and channel names agree on what a slug is: no hotel is unreachable or ambiguous."""
    found = CONTRACT.match(f"{twin}{slug}.{area}")
    if token_takes(slug):
        assert found is not None
        assert found.family.named_by_slug
        assert found.hotel_slug == slug
    elif found is not None:
        assert found.hotel_slug != slug


@given(st.text(max_size=30), st.sampled_from(MATCHES))
def test_match_of_a_longer_name_never_names_the_same_hotel_or_subject(
    more: str, known: tuple[str, str, dict[str, str]]
) -> None:
    """What is appended to a name changes whose channel it is, or makes it nobody's."""
    channel, _, _ = known
    found = CONTRACT.match(channel + more)
    if found is not None and more:
        assert (found.family, found.parameters) != (
            match(channel).family,
            match(channel).parameters,
        )

"""The producers' own documents, example by example: what passes, and why the rest is refused.

Five documents were written before the contract, because producers drifted apart. Where an example
has open values (a serializer's output, an id) they are filled in with plausible ones.
"""

from __future__ import annotations

from typing import Any

import pytest

from channels_spec.envelope import NotAcceptable, normalize
from tests.people import match

TS = "2025-12-26T15:48:23Z"
BOOKING = {"booking_id": "BK-2025-0001", "status": "CONFIRMED", "guest_name": "John Doe"}
ROOM = {"room_id": 101, "room_number": "101", "room_status": "CLEANING_IN_PROGRESS"}
NOT_AN_ENVELOPE = "/: not an envelope of category, type, payload and meta"
FEED = "staff-hotel-7"
GUEST = "guest-booking-BK-2025-0001"


def envelope(category: str, type_: str, payload: dict[str, Any], scope: Any) -> dict[str, Any]:
    """Return an envelope as the documents give it."""
    meta = {"event_id": "550e8400-e29b-41d4-a716-446655440000", "hotel_slug": "hotel-killarney"}
    return {
        "category": category,
        "type": type_,
        "payload": payload,
        "meta": {**meta, "ts": TS, "scope": scope},
    }


def legacy(**body: Any) -> dict[str, Any]:
    """Return a body of the inventory of 2024: no envelope."""
    return {**body, "timestamp": TS}


BOOKINGS, ROOMS = "hotel-killarney.room-bookings", "hotel-killarney.rooms"
SCOPE = {"booking_id": "BK-2025-0001", "primary_email": "john@example.com"}
CREATED = {**BOOKING, "created_at": TS}
ROOM_SNAPSHOT = {
    **ROOM,
    "is_occupied": False,
    "is_out_of_order": False,
    "maintenance_required": True,
    "maintenance_priority": "HIGH",
    "maintenance_notes": "AC not working",
    "last_inspected_at": None,
    "changed_fields": ["room_status", "maintenance_required"],
    "room_type": "Standard Room",
    "guests_in_room": 0,
}

# (example, channel, Pusher event name or None for a bare envelope, body, violations, warnings)
EXAMPLES: list[tuple[str, str, str | None, Any, list[str], list[str]]] = [
    (
        "000 standard envelope, with the serializer's data",
        BOOKINGS,
        None,
        envelope("room_booking", "booking_created", CREATED, SCOPE),
        [],
        [],
    ),
    (
        "000 standard envelope, with its comment for a payload",
        BOOKINGS,
        None,
        envelope("room_booking", "booking_created", {}, SCOPE),
        [f'/payload: "{f}" is a required property' for f in (*BOOKING, "created_at")],
        [],
    ),
    (
        "000 the old category",
        BOOKINGS,
        None,
        envelope("booking", "booking_created", CREATED, SCOPE),
        ["/category: expected room_booking on {hotel_slug}.room-bookings"],
        [],
    ),
    (
        "000 the old channel",
        "hotel-killarney.booking",
        None,
        envelope("room_booking", "booking_created", CREATED, SCOPE),
        [
            (
                "/type: 'booking_created' is not an event of {hotel_slug}.booking;"
                " it belongs to {hotel_slug}.room-bookings"
            ),
            (
                "/category: expected booking on {hotel_slug}.booking;"
                " room bookings go to {hotel_slug}.room-bookings"
            ),
        ],
        [],
    ),
    (
        "001 booking_confirmed, with the scope as a string",
        BOOKINGS,
        "booking_confirmed",
        envelope("room_booking", "booking_confirmed", {**BOOKING, "confirmed_at": TS}, "staff"),
        [],
        [
            "/meta/scope: a string accepted as the audience",
            "/meta/scope/booking_id: missing",
        ],
    ),
    (
        "001 room_status_changed, in the category room",
        ROOMS,
        "room_status_changed",
        envelope(
            "room",
            "room_status_changed",
            {"room_id": 101, "status": "CHECKOUT_DIRTY", "changed_at": TS},
            {},
        ),
        [],
        ["/category: 'room' accepted for 'rooms'"],
    ),
    (
        "002 full event payload",
        ROOMS,
        None,
        envelope("rooms", "room_updated", ROOM_SNAPSHOT, {"room_number": "101"}),
        [],
        [],
    ),
    (
        "003 booking_created by the notification manager",
        FEED,
        "booking_created",
        legacy(booking=BOOKING, action="created"),
        [NOT_AN_ENVELOPE],
        [],
    ),
    (
        "003 booking_checked_out by a view",
        FEED,
        "booking_checked_out",
        {"booking_id": "BK-2025-0001", "room_number": "101", "checked_out_at": TS},
        [NOT_AN_ENVELOPE],
        [],
    ),
    (
        "003 room_occupancy_updated by the notification manager",
        FEED,
        "room_occupancy_updated",
        legacy(room=ROOM, is_occupied=True, action="occupancy_updated"),
        [NOT_AN_ENVELOPE],
        [],
    ),
    (
        "003 room_deleted by a view",
        FEED,
        "room_deleted",
        {"room_id": 101, "room_number": "101"},
        [NOT_AN_ENVELOPE],
        [],
    ),
    (
        "003 room_status_updated by a view",
        FEED,
        "room_status_updated",
        {"room_id": 101, "room_status": "CLEANED_UNINSPECTED"},
        [NOT_AN_ENVELOPE],
        [],
    ),
    (
        "003 a guest's booking confirmed, under its short name",
        GUEST,
        "confirmed",
        envelope(
            "guest_booking",
            "confirmed",
            {**BOOKING, "confirmed_at": TS},
            {"booking_id": "BK-2025-0001"},
        ),
        [],
        [],
    ),
    (
        "003 the recommended base schema",
        ROOMS,
        "room_status_changed",
        {"event_id": "1", "event_type": "room_status_changed", "timestamp": TS, "data": {}},
        [NOT_AN_ENVELOPE],
        [],
    ),
    (
        "004 room_updated at check-in, by event_type and with a list of guests",
        ROOMS,
        None,
        {
            **{
                key: value
                for key, value in envelope(
                    "rooms",
                    "",
                    {**ROOM_SNAPSHOT, "room_status": "OCCUPIED", "guests_in_room": [{"id": 1}]},
                    {"room_number": "101"},
                ).items()
                if key != "type"
            },
            "event_type": "room_updated",
        },
        [],
        ["/event_type: accepted for type"],
    ),
    (
        "004 booking_checked_in on the staff feed",
        FEED,
        "booking_checked_in",
        envelope(
            "room_booking",
            "booking_checked_in",
            {**BOOKING, "room_number": {"room_number": "101", "floor": 1}},
            {"booking_id": "BK-2025-0001", "room_number": "101"},
        ),
        [],
        [],
    ),
]


@pytest.mark.parametrize(
    "channel, event, body, violations, warnings",
    [example[1:] for example in EXAMPLES],
    ids=[example[0] for example in EXAMPLES],
)
def test_example_passes_or_is_refused_for_the_contracts_reason(
    channel: str, event: str | None, body: Any, violations: list[str], warnings: list[str]
) -> None:
    """Each example has exactly the faults that the hotel contract gives it."""
    result = normalize(match(channel), event, body, new_id=lambda: "new", now=lambda: TS)
    assert sorted(map(str, result.violations)) == sorted(violations)
    assert list(map(str, result.warnings)) == warnings


@pytest.mark.parametrize(
    "channel, event, body, reason",
    [
        (
            GUEST,
            "booking_created",
            legacy(booking=BOOKING),
            "/type: 'booking_created' is not an event of guest-booking-{booking_id}",
        ),
        (
            "grand-plaza.rooms",
            None,
            envelope("rooms", "room_updated", ROOM_SNAPSHOT, {"room_number": "101"}),
            "/meta/hotel_slug: 'hotel-killarney' differs from the channel's hotel 'grand-plaza'",
        ),
    ],
)
def test_example_is_refused_in_every_mode(
    channel: str, event: str | None, body: Any, reason: str
) -> None:
    """What is not listed never reaches a guest, and no hotel's event another hotel's channel."""
    with pytest.raises(NotAcceptable) as caught:
        normalize(match(channel), event, body, new_id=lambda: "new", now=lambda: TS)
    assert str(caught.value) == reason

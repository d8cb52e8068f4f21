"""Bodies of events, and what becomes of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from channels_spec.contract import EventSpec
from channels_spec.envelope import Normalized, NotAcceptable, normalize
from tests.people import match

NOW = "2025-12-20T10:30:00.000Z"
NEW_ID = "new-id"
ROOMS = "grand.rooms"
FEED = "staff-hotel-1"
GUEST = "guest-booking-7"
ENVELOPE: dict[str, Any] = {
    "category": "rooms",
    "type": "room_updated",
    # What any event of the contract requires of its payload, so that only the envelope is at fault.
    "payload": {
        "room_number": 12,
        "room_status": "OCCUPIED",
        "is_occupied": True,
        "is_out_of_order": False,
        "maintenance_required": False,
        "changed_fields": ["room_status"],
        "room_id": 7,
        "booking_id": "B-1",
        "status": "CONFIRMED",
        "confirmed_at": "2025-12-20T10:00:00Z",
    },
    "meta": {
        "event_id": "e-1",
        "hotel_slug": "grand",
        "ts": "2025-12-20T10:00:00Z",
        "scope": {"room_number": 12, "booking_id": "B-1", "status": "CONFIRMED"},
    },
}


def normalized(body: object, *, channel: str = ROOMS, event: str | None = None) -> Normalized:
    """Return what becomes of a body that is published on a channel."""
    return normalize(match(channel), event, body, new_id=lambda: NEW_ID, now=lambda: NOW)


def envelope(*, meta: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the envelope with parts replaced; ``...`` removes one."""
    body = {**copy.deepcopy(ENVELOPE), **changes}
    body["meta"] = {**ENVELOPE["meta"], **(meta or {})}
    for part in (body, body["meta"]):
        for key in [key for key, value in part.items() if value is ...]:
            del part[key]
    return body


def spec(event: str, channel: str = ROOMS) -> EventSpec:
    """Return an event's row in the contract."""
    return match(channel).family.events[event]


def accepted(body: object, **more: Any) -> tuple[list[str], list[str]]:
    """Return the violations and warnings of a body that is not refused outright."""
    result = normalized(body, **more)
    return [str(fault) for fault in result.violations], [str(fault) for fault in result.warnings]


def refusal(body: object, **more: Any) -> str:
    """Return why a body is refused in every mode."""
    with pytest.raises(NotAcceptable) as caught:
        normalized(body, **more)
    assert str(caught.value) == "; ".join(map(str, caught.value.faults))
    return str(caught.value)

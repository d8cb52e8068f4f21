"""What the load tests play: keys, tokens and room events of made-up hotels."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from uuid import uuid4

import jwt

EVENT = "room_updated"
HOTEL = "hotel-killarney"
QUIET_HOTEL = "hotel-dingle"
CLIENT_QUERY = "protocol=7&client=bench&version=1"


@dataclass(frozen=True, slots=True)
class Keys:
    """The app's keys and the secret that signs tokens, under the names a backend exports."""

    app_id: str = "1"
    key: str = "loadtest-key"
    secret: str = "loadtest-secret-of-thirty-two-bytes-or-more"
    jwt_secret: str = "loadtest-jwt-secret-of-thirty-two-bytes-or-more"

    @classmethod
    def from_environment(cls, default: Self, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the exported variables, each falling back to `default`'s value."""
        return cls(
            app_id=environ.get("PUSHER_APP_ID", default.app_id),
            key=environ.get("PUSHER_KEY", default.key),
            secret=environ.get("PUSHER_SECRET", default.secret),
            jwt_secret=environ.get("BELLHOP_JWT_SECRET", default.jwt_secret),
        )

    def environment(self) -> dict[str, str]:
        """Name each key as the server's settings do."""
        return {
            "PUSHER_APP_ID": self.app_id,
            "PUSHER_KEY": self.key,
            "PUSHER_SECRET": self.secret,
            "BELLHOP_JWT_SECRET": self.jwt_secret,
        }


def rooms_channel(hotel: str) -> str:
    """Name the channel that carries a hotel's room state."""
    return f"{hotel}.rooms"


def bookings_channel(hotel: str) -> str:
    """Name the channel that carries a hotel's room bookings."""
    return f"{hotel}.room-bookings"


def staff_token(keys: Keys, sub: str, hotel: str, ttl_s: int = 3600) -> str:
    """Sign a front-desk token for one hotel."""
    claims = {
        "sub": sub,
        "exp": int(time.time()) + ttl_s,
        "kind": "staff",
        "hotels": [hotel],
        "roles": ["front_desk"],
    }
    return jwt.encode(claims, keys.jwt_secret, algorithm="HS256")


def room_updated(hotel: str, room_number: int, note: str = "") -> dict[str, object]:
    """Build a complete contract envelope; `payload.published_at` is Unix time in seconds.

    `note` pads the event. It must hold no digits, or the card rule might take it for a card.
    """
    return {
        "category": "rooms",
        "type": EVENT,
        "payload": {
            "room_number": room_number,
            "room_status": "CLEANING_IN_PROGRESS",
            "is_occupied": False,
            "is_out_of_order": False,
            "maintenance_required": False,
            "changed_fields": ["room_status"],
            "published_at": time.time(),
            "note": note,
        },
        "meta": {
            "event_id": str(uuid4()),
            "hotel_slug": hotel,
            "ts": datetime.now(UTC).isoformat(),
            "scope": {"room_number": room_number},
        },
    }


def booking_updated(hotel: str, number: int) -> dict[str, object]:
    """Build a small envelope of the bookings' channel, published now as `room_updated` is."""
    booking_id = f"BK-{number:04}"
    return {
        "category": "room_booking",
        "type": "booking_updated",
        "payload": {
            "update_number": number,
            "booking_id": booking_id,
            "status": "CONFIRMED",
            "published_at": time.time(),
        },
        "meta": {
            "event_id": str(uuid4()),
            "hotel_slug": hotel,
            "ts": datetime.now(UTC).isoformat(),
            "scope": {"booking_id": booking_id, "status": "CONFIRMED"},
        },
    }


def booking_created(hotel: str, number: int) -> dict[str, object]:
    """Build a paid booking of some 1.5 kB, of which finance sees more than the front desk."""
    booking_id = f"BK-2025-{number:04}"
    return {
        "category": "room_booking",
        "type": "booking_created",
        "payload": {
            "booking_id": booking_id,
            "status": "CONFIRMED",
            "created_at": "2025-12-16T15:30:00Z",
            "guest_name": "John Doe",
            "nights": 3,
            "room_type": "Deluxe",
            "rate_plan": {"code": "BAR", "name": "Best available", "currency": "EUR"},
            "party": [
                {"first_name": "John", "last_name": "Doe", "is_primary": True},
                {"first_name": "Jane", "last_name": "Doe", "is_primary": False},
            ],
            "contact": {"email": "john@example.com", "phone": "+353 64 663 1555"},
            "special_requests": "A quiet room towards the lake, please. " * 8,
            "payment_status": "PAID",
            "payment": {"method": "card", "deposit_amount": "100.00"},
            "notes": "Returning guest; prefers feather pillows. " * 5,
            "timeline": [{"at": "2025-12-16T15:30:00Z", "what": "created"}] * 3,
        },
        "meta": {
            "event_id": str(uuid4()),
            "hotel_slug": hotel,
            "ts": "2025-12-16T15:30:00.000Z",
            "scope": {"booking_id": booking_id, "primary_email": "john@example.com"},
        },
    }


def compact(envelope: Mapping[str, object]) -> bytes:
    """Encode an envelope as a backend would put it on Redis."""
    return json.dumps(envelope, separators=(",", ":")).encode()

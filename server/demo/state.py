"""Rooms and bookings of the simulated hotel: values, legal moves, and how each is serialized."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

JsonObject = dict[str, object]


@dataclass(frozen=True, slots=True)
class DemoEvent:
    """One event that the hotel's backend publishes."""

    channel: str
    name: str
    envelope: JsonObject


class RoomStatus(StrEnum):
    """Where a room stands in the housekeeping round, or why it is out of it."""

    READY_FOR_GUEST = "READY_FOR_GUEST"
    OCCUPIED = "OCCUPIED"
    CHECKOUT_DIRTY = "CHECKOUT_DIRTY"
    CLEANING_IN_PROGRESS = "CLEANING_IN_PROGRESS"
    CLEANED_UNINSPECTED = "CLEANED_UNINSPECTED"
    MAINTENANCE_REQUIRED = "MAINTENANCE_REQUIRED"
    OUT_OF_ORDER = "OUT_OF_ORDER"


_BROKEN: Final = RoomStatus.MAINTENANCE_REQUIRED

LEGAL_MOVES: Final[Mapping[RoomStatus, frozenset[RoomStatus]]] = MappingProxyType(
    {
        RoomStatus.READY_FOR_GUEST: frozenset({RoomStatus.OCCUPIED, _BROKEN}),
        RoomStatus.OCCUPIED: frozenset({RoomStatus.CHECKOUT_DIRTY}),
        RoomStatus.CHECKOUT_DIRTY: frozenset({RoomStatus.CLEANING_IN_PROGRESS, _BROKEN}),
        RoomStatus.CLEANING_IN_PROGRESS: frozenset({RoomStatus.CLEANED_UNINSPECTED, _BROKEN}),
        RoomStatus.CLEANED_UNINSPECTED: frozenset({RoomStatus.READY_FOR_GUEST, _BROKEN}),
        # A repaired room is dirty whatever it was before: somebody worked in it.
        RoomStatus.MAINTENANCE_REQUIRED: frozenset(
            {RoomStatus.OUT_OF_ORDER, RoomStatus.CHECKOUT_DIRTY}
        ),
        RoomStatus.OUT_OF_ORDER: frozenset({RoomStatus.CHECKOUT_DIRTY}),
    }
)
"""Where a room may go from each status; an occupied room is repaired around its guest."""


class MaintenancePriority(StrEnum):
    """How soon a fault must be seen to."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    URGENT = "URGENT"


class BookingStatus(StrEnum):
    """The life of a booking; a check-in leaves it CONFIRMED, a check-out completes it."""

    PENDING = "PENDING"
    CONFIRMED = "CONFIRMED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"


def iso(moment: datetime) -> str:
    """Format a moment as the contract's timestamps: UTC, milliseconds, ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


@dataclass(frozen=True, slots=True)
class Room:
    """One room as the hotel's backend knows it."""

    room_id: int
    number: str
    room_type: str
    max_occupancy: int
    status: RoomStatus
    last_cleaned_at: datetime
    last_inspected_at: datetime | None
    updated_at: datetime
    booking_id: str | None = None
    guests: tuple[str, ...] = ()
    """Names of those who stay there now, the primary guest first."""
    maintenance_priority: MaintenancePriority | None = None
    maintenance_notes: str = ""

    @property
    def floor(self) -> int:
        """The floor, which the number starts with."""
        return int(self.number[0])

    @property
    def is_occupied(self) -> bool:
        """Whether a guest has the room."""
        return self.status is RoomStatus.OCCUPIED

    @property
    def is_out_of_order(self) -> bool:
        """Whether the room is withdrawn from sale."""
        return self.status is RoomStatus.OUT_OF_ORDER

    @property
    def maintenance_required(self) -> bool:
        """Whether a fault is reported and not yet repaired."""
        return self.maintenance_priority is not None

    def occupancy(self) -> JsonObject:
        """Return the payload of ``room_occupancy_updated``."""
        return {
            "room_id": self.room_id,
            "room_number": self.number,
            "room_status": self.status,
            "is_occupied": self.is_occupied,
            "guests_in_room": [
                {"name": name, "is_primary": index == 0} for index, name in enumerate(self.guests)
            ],
            "booking_id": self.booking_id,
        }

    def payload(self) -> JsonObject:
        """Return the full room snapshot that ``room_updated`` carries, without its changes."""
        return self.occupancy() | {
            "floor": self.floor,
            "room_type": self.room_type,
            "max_occupancy": self.max_occupancy,
            "is_out_of_order": self.is_out_of_order,
            "maintenance_required": self.maintenance_required,
            "maintenance_priority": self.maintenance_priority,
            "maintenance_notes": self.maintenance_notes,
            "last_cleaned_at": iso(self.last_cleaned_at),
            "last_inspected_at": iso(self.last_inspected_at) if self.last_inspected_at else None,
        }


@dataclass(frozen=True, slots=True)
class Booking:
    """One room booking as the hotel's backend knows it."""

    booking_id: str
    guests: tuple[str, ...]
    """The party, the primary guest first."""
    room_type: str
    arrival: date
    departure: date
    created_at: datetime
    updated_at: datetime
    source: str
    status: BookingStatus = BookingStatus.PENDING
    room_number: str | None = None
    special_request: str | None = None
    confirmed_at: datetime | None = None
    checked_in_at: datetime | None = None
    checked_out_at: datetime | None = None
    cancelled_at: datetime | None = None
    cancellation_reason: str | None = None
    payment_status: str | None = None
    deposit_amount: str | None = None
    """Euro, two decimals."""

    @property
    def primary_email(self) -> str:
        """The address of the primary guest, in a domain that nobody owns."""
        plain = unicodedata.normalize("NFKD", self.guests[0].lower()).encode("ascii", "ignore")
        return ".".join(plain.decode().replace("'", "").split()) + "@example.com"

    @property
    def is_open(self) -> bool:
        """Whether the stay is still ahead or under way."""
        return self.status in {BookingStatus.PENDING, BookingStatus.CONFIRMED}

    @property
    def is_expected(self) -> bool:
        """Whether the guest has yet to arrive."""
        return self.is_open and self.checked_in_at is None

    @property
    def is_in_house(self) -> bool:
        """Whether the guest is staying now."""
        return self.is_open and self.checked_in_at is not None

    def payload(self, business_date: date, *, payments: bool = True) -> JsonObject:
        """Return the complete booking; fields that have no value yet are absent.

        Without ``payments`` the fields are left out that only finance roles may see.
        """
        fields: JsonObject = {
            "booking_id": self.booking_id,
            "status": self.status,
            "guest_name": self.guests[0],
            "party": list(self.guests),
            "party_size": len(self.guests),
            "room_number": self.room_number,
            "room_type": self.room_type,
            "arrival_date": self.arrival.isoformat(),
            "departure_date": self.departure.isoformat(),
            "nights": (self.departure - self.arrival).days,
            "source": self.source,
            "special_request": self.special_request,
            "created_at": iso(self.created_at),
            "confirmed_at": self.confirmed_at and iso(self.confirmed_at),
            "checked_in_at": self.checked_in_at and iso(self.checked_in_at),
            "checked_out_at": self.checked_out_at and iso(self.checked_out_at),
            "cancelled_at": self.cancelled_at and iso(self.cancelled_at),
            "cancellation_reason": self.cancellation_reason,
            "business_date": business_date.isoformat(),
        }
        if payments:
            fields["payment_status"] = self.payment_status
            fields["deposit_amount"] = self.deposit_amount
        return {name: value for name, value in fields.items() if value is not None}

"""The scene that the simulated hotel opens with: a morning with guests in every phase of a stay."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from server.demo.people import SOURCES, draw_deposit, draw_party
from server.demo.state import (
    Booking,
    BookingStatus,
    MaintenancePriority,
    Room,
    RoomStatus,
)

MAX_OCCUPANCY: Final = {"Twin": 2, "Double": 2, "Family": 4, "Superior": 3, "Suite": 4}

_FLOORS: Final = {
    1: "Twin Twin Double Double Double Family Family",
    2: "Twin Twin Double Double Double Double Family",
    3: "Twin Double Double Double Superior Superior Family",
    4: "Superior Superior Superior Suite Suite",
}

_STAYING, _DUE_OUT, _LEFT, _ARRIVING, _TOMORROW = 7, 4, 1, 4, 2


def draw_rooms(now: datetime) -> dict[str, Room]:
    """Return the hotel's 26 rooms, all cleaned, inspected and empty."""
    rooms: dict[str, Room] = {}
    for floor, types in _FLOORS.items():
        for position, room_type in enumerate(types.split(), start=1):
            number = f"{floor}{position:02}"
            rooms[number] = Room(
                room_id=len(rooms) + 1,
                number=number,
                room_type=room_type,
                max_occupancy=MAX_OCCUPANCY[room_type],
                status=RoomStatus.READY_FOR_GUEST,
                last_cleaned_at=now - timedelta(hours=20),
                last_inspected_at=now - timedelta(hours=19),
                updated_at=now,
            )
    return rooms


class OpeningScene:
    """Fills the rooms, one kind of stay after the other."""

    def __init__(self, rng: random.Random, now: datetime) -> None:
        self._rng = rng
        self._now = now
        self.rooms = draw_rooms(now)
        self.bookings: dict[str, Booking] = {}
        self._empty = list(self.rooms)
        rng.shuffle(self._empty)
        for _ in range(_STAYING):
            self._in_house(nights_left=rng.randint(1, 3))
        for _ in range(_DUE_OUT):
            self._in_house(nights_left=0)
        for _ in range(_LEFT):
            self._left_this_morning()
        for index in range(_ARRIVING):
            # The last one has not been confirmed yet, and so has no room.
            self._expected(days_ahead=0, confirmed=index < _ARRIVING - 1)
        for index in range(_TOMORROW):
            self._expected(days_ahead=1, confirmed=index == 0)
        self._housekeeping()

    def _book(self, room: Room, days_ago: int, nights: int) -> Booking:
        now, rng = self._now, self._rng
        taken = {booking.guests[0] for booking in self.bookings.values()}
        size = rng.randint(1, room.max_occupancy)
        arrival = now.date() - timedelta(days=days_ago)
        created_at = now - timedelta(
            days=days_ago + rng.randint(3, 40), minutes=rng.randint(0, 600)
        )
        deposit = draw_deposit(rng)
        booking = Booking(
            booking_id=f"BK-{now.year}-{412 + len(self.bookings):04}",
            guests=draw_party(rng, size, taken),
            room_type=room.room_type,
            arrival=arrival,
            departure=arrival + timedelta(days=nights),
            created_at=created_at,
            updated_at=now,
            source=rng.choice(SOURCES),
            payment_status="DEPOSIT_PAID" if deposit else None,
            deposit_amount=deposit,
        )
        self.bookings[booking.booking_id] = booking
        return booking

    def _save(self, booking: Booking) -> None:
        self.bookings[booking.booking_id] = booking

    def _in_house(self, nights_left: int) -> None:
        room = self.rooms[self._empty.pop()]
        days_ago = self._rng.randint(1, 3)
        booking = self._book(room, days_ago, days_ago + nights_left)
        checked_in_at = self._now - timedelta(days=days_ago, minutes=self._rng.randint(0, 300))
        self._save(
            replace(
                booking,
                status=BookingStatus.CONFIRMED,
                room_number=room.number,
                confirmed_at=booking.created_at + timedelta(minutes=9),
                checked_in_at=checked_in_at,
                payment_status="BALANCE_DUE" if nights_left == 0 else booking.payment_status,
            )
        )
        self.rooms[room.number] = replace(
            room,
            status=RoomStatus.OCCUPIED,
            guests=booking.guests,
            booking_id=booking.booking_id,
        )

    def _left_this_morning(self) -> None:
        room = self.rooms[self._empty.pop()]
        booking = self._book(room, days_ago=2, nights=2)
        self._save(
            replace(
                booking,
                status=BookingStatus.COMPLETED,
                room_number=room.number,
                confirmed_at=booking.created_at + timedelta(minutes=9),
                checked_in_at=self._now - timedelta(days=2),
                checked_out_at=self._now - timedelta(minutes=self._rng.randint(10, 60)),
                payment_status="PAID",
            )
        )
        self.rooms[room.number] = replace(room, status=RoomStatus.CHECKOUT_DIRTY)

    def _expected(self, days_ahead: int, *, confirmed: bool) -> None:
        # A room is promised on the day itself; for a later day any room gives the type.
        assigned = confirmed and days_ahead == 0
        number = self._empty.pop() if assigned else self._rng.choice(self._empty)
        room = self.rooms[number]
        booking = self._book(room, -days_ahead, self._rng.randint(1, 3))
        if confirmed:
            booking = replace(
                booking,
                status=BookingStatus.CONFIRMED,
                room_number=number if assigned else None,
                confirmed_at=booking.created_at + timedelta(minutes=9),
            )
        self._save(booking)

    def _housekeeping(self) -> None:
        """Put the rooms that nobody has or is promised into the other states."""
        moderate = MaintenancePriority.MEDIUM
        scenes: tuple[tuple[RoomStatus, MaintenancePriority | None, str], ...] = (
            (RoomStatus.CHECKOUT_DIRTY, None, ""),
            (RoomStatus.CHECKOUT_DIRTY, None, ""),
            (RoomStatus.CLEANING_IN_PROGRESS, None, ""),
            (RoomStatus.CLEANED_UNINSPECTED, None, ""),
            (RoomStatus.MAINTENANCE_REQUIRED, moderate, "Radiator cold"),
            (RoomStatus.OUT_OF_ORDER, moderate, "Leak under basin"),
        )
        for status, priority, notes in scenes:
            number = self._empty.pop()
            self.rooms[number] = replace(
                self.rooms[number],
                status=status,
                maintenance_priority=priority,
                maintenance_notes=notes,
            )

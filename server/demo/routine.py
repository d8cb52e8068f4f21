"""What goes on in the simulated hotel: each action as a receptionist would name it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from typing import Final

from server.demo.ledger import Ledger
from server.demo.opening import MAX_OCCUPANCY
from server.demo.people import (
    CANCELLATION_REASONS,
    FAULTS,
    REQUESTS,
    SOURCES,
    draw_companions,
    draw_deposit,
    draw_party,
)
from server.demo.state import (
    Booking,
    BookingStatus,
    MaintenancePriority,
    Room,
    RoomStatus,
)

Action = Callable[[], None]
Choice = tuple[float, Action]
"""How likely, compared with the others, and what."""

_SHORTEST_DAY: Final = 40
_MAX_SOLD: Final = 18
"""Fewer than there are rooms, so that a fault never leaves a guest without one."""
_MAX_SAME_DAY: Final = 6
_MAX_FAULTS: Final = 3
_MAX_OUT_OF_ORDER: Final = 2
_CLEANERS: Final = 3


class Space:
    """What is left to sell, as the books stand."""

    def __init__(self, ledger: Ledger) -> None:
        self._rooms = Counter(room.room_type for room in ledger.rooms)
        self._sold = ledger.sold()
        self._sold_in_all: Counter[date] = Counter()
        for (night, _), number in self._sold.items():
            self._sold_in_all[night] += number
        self._leaving = Counter(b.departure for b in ledger.bookings if b.is_open)

    def has(self, room_type: str, first: date, nights: int) -> bool:
        """Whether rooms are left for each night, and few enough leave on the last morning."""
        if self._leaving[first + timedelta(days=nights)] >= _MAX_SAME_DAY:
            return False
        days = [first + timedelta(days=offset) for offset in range(nights)]
        # One room of each type stays unsold, for the day that another has a fault.
        return all(
            self._sold_in_all[day] < _MAX_SOLD
            and self._sold[day, room_type] < self._rooms[room_type] - 1
            for day in days
        )


class Routine:
    """Draws what happens next from what the books allow."""

    def __init__(self, ledger: Ledger, rng: random.Random) -> None:
        self._ledger = ledger
        self._rng = rng
        self._next_number = 412 + len(list(ledger.bookings))
        self._steps_today = 0

    def next_action(self) -> Action:
        """Return what happens next. There is always something: a day with all done ends."""
        self._steps_today += 1
        choices = [
            *self._reception(),
            *self._housekeeping(),
            *self._maintenance(),
            *self._reservations(),
        ]
        if not self._ledger.arrivals() and not self._ledger.due_out():
            rested = self._steps_today >= _SHORTEST_DAY
            if rested or not choices:
                choices.append((8.0, self._end_day))
        weights = [weight for weight, _ in choices]
        return self._rng.choices(choices, weights)[0][1]

    # Reception

    def _reception(self) -> Iterator[Choice]:
        ledger = self._ledger
        for booking in ledger.due_out():
            yield 1.0, partial(self._check_out, booking)
        for booking in ledger.arrivals():
            if booking.status is BookingStatus.PENDING:
                continue
            room = None if booking.room_number is None else ledger.room(booking.room_number)
            if room is None or not ledger.can_have(room, booking):
                for other in self._best_rooms(booking):
                    yield 6.0, partial(self._assign, booking, other)
            elif room.status is RoomStatus.READY_FOR_GUEST:
                yield 1.2, partial(self._check_in, booking, room)

    def _best_rooms(self, booking: Booking) -> list[Room]:
        """Return the room to give, or nothing: the booked type and a ready one first."""
        rooms = [room for room in self._ledger.rooms if self._ledger.can_have(room, booking)]
        rooms.sort(
            key=lambda room: (
                room.room_type != booking.room_type,
                room.status is not RoomStatus.READY_FOR_GUEST,
                room.number,
            )
        )
        return rooms[:1]

    def _assign(self, booking: Booking, room: Room) -> None:
        moved = replace(booking, room_number=room.number)
        self._ledger.put_booking("booking_updated", moved, status=moved.status)

    def _check_in(self, booking: Booking, room: Room) -> None:
        arrived = replace(booking, checked_in_at=self._ledger.tick())
        self._ledger.put_booking("booking_checked_in", arrived)
        taken = replace(
            room,
            status=RoomStatus.OCCUPIED,
            guests=booking.guests,
            booking_id=booking.booking_id,
        )
        self._ledger.put_room(taken, occupancy=True)

    def _check_out(self, booking: Booking) -> None:
        left = replace(
            booking,
            status=BookingStatus.COMPLETED,
            checked_out_at=self._ledger.tick(),
            payment_status=booking.payment_status and "PAID",
        )
        self._ledger.put_booking("booking_checked_out", left)
        room = self._ledger.room(booking.room_number or "")
        emptied = replace(room, status=RoomStatus.CHECKOUT_DIRTY, guests=(), booking_id=None)
        self._ledger.put_room(emptied, occupancy=True)

    # Housekeeping

    def _housekeeping(self) -> Iterator[Choice]:
        cleaning = self._ledger.count(RoomStatus.CLEANING_IN_PROGRESS)
        awaited = {booking.room_number for booking in self._ledger.arrivals()}
        for room in self._ledger.rooms:
            urgency = 3.0 if room.number in awaited else 1.0
            if room.status is RoomStatus.CLEANING_IN_PROGRESS:
                yield urgency, partial(self._finish_cleaning, room)
            elif room.maintenance_required:
                continue
            elif room.status is RoomStatus.CHECKOUT_DIRTY and cleaning < _CLEANERS:
                yield urgency, partial(self._move, room, RoomStatus.CLEANING_IN_PROGRESS)
            elif room.status is RoomStatus.CLEANED_UNINSPECTED:
                yield urgency, partial(self._pass_inspection, room)

    def _move(self, room: Room, status: RoomStatus) -> None:
        self._ledger.put_room(replace(room, status=status))

    def _finish_cleaning(self, room: Room) -> None:
        now = self._ledger.tick()
        status = RoomStatus.CLEANED_UNINSPECTED
        self._ledger.put_room(replace(room, status=status, last_cleaned_at=now))

    def _pass_inspection(self, room: Room) -> None:
        now = self._ledger.tick()
        status = RoomStatus.READY_FOR_GUEST
        self._ledger.put_room(replace(room, status=status, last_inspected_at=now))

    # Maintenance

    def _maintenance(self) -> Iterator[Choice]:
        rooms = list(self._ledger.rooms)
        faulty = [room for room in rooms if room.maintenance_required]
        if len(faulty) < _MAX_FAULTS:
            sound = [room for room in rooms if not room.maintenance_required]
            yield 0.9, partial(self._report_fault, self._rng.choice(sound))
        for room in faulty:
            yield 0.2, partial(self._repair, room)
            if room.maintenance_priority is not MaintenancePriority.URGENT:
                yield 0.1, partial(self._raise_priority, room)
            if (
                room.status is RoomStatus.MAINTENANCE_REQUIRED
                and self._ledger.count(RoomStatus.OUT_OF_ORDER) < _MAX_OUT_OF_ORDER
            ):
                yield 0.2, partial(self._move, room, RoomStatus.OUT_OF_ORDER)

    def _report_fault(self, room: Room) -> None:
        self._ledger.put_room(
            replace(
                room,
                # A guest keeps the room; the fault shows on its card until it is repaired.
                status=room.status if room.is_occupied else RoomStatus.MAINTENANCE_REQUIRED,
                maintenance_priority=self._rng.choice(list(MaintenancePriority)),
                maintenance_notes=self._rng.choice(FAULTS),
            )
        )

    def _raise_priority(self, room: Room) -> None:
        scale = list(MaintenancePriority)
        current = room.maintenance_priority
        higher = scale[scale.index(current) + 1] if current else MaintenancePriority.LOW
        self._ledger.put_room(replace(room, maintenance_priority=higher))

    def _repair(self, room: Room) -> None:
        withdrawn = room.status in {RoomStatus.MAINTENANCE_REQUIRED, RoomStatus.OUT_OF_ORDER}
        self._ledger.put_room(
            replace(
                room,
                status=RoomStatus.CHECKOUT_DIRTY if withdrawn else room.status,
                maintenance_priority=None,
                maintenance_notes="",
            )
        )

    # Reservations

    def _reservations(self) -> Iterator[Choice]:
        space = Space(self._ledger)
        for booking in self._ledger.bookings:
            if booking.is_expected:
                if booking.status is BookingStatus.PENDING:
                    yield 1.0, partial(self._confirm, booking)
                yield 0.02, partial(self._cancel, booking)
                if booking.special_request is None:
                    yield 0.04, partial(self._note_request, booking)
                yield 0.02, partial(self._change_party, booking)
            elif booking.is_in_house and space.has(booking.room_type, booking.departure, 1):
                yield 0.015, partial(self._extend, booking)
        for days_ahead, weight in ((0, 0.4), (1, 2.0), (2, 0.5)):
            arrival = self._ledger.business_date + timedelta(days=days_ahead)
            if sum(booking.arrival == arrival for booking in self._ledger.bookings) < _MAX_SAME_DAY:
                nights = self._rng.randint(1, 4)
                types = [kind for kind in MAX_OCCUPANCY if space.has(kind, arrival, nights)]
                if types:
                    room_type = self._rng.choice(types)
                    yield weight, partial(self._book, room_type, arrival, nights)

    def _book(self, room_type: str, arrival: date, nights: int) -> None:
        rng = self._rng
        taken = {booking.guests[0] for booking in self._ledger.bookings}
        deposit = draw_deposit(rng)
        now = self._ledger.tick()
        booking = Booking(
            booking_id=f"BK-{arrival.year}-{self._next_number:04}",
            guests=draw_party(rng, rng.randint(1, MAX_OCCUPANCY[room_type]), taken),
            room_type=room_type,
            arrival=arrival,
            departure=arrival + timedelta(days=nights),
            created_at=now,
            updated_at=now,
            source=rng.choice(SOURCES),
            payment_status="DEPOSIT_PAID" if deposit else None,
            deposit_amount=deposit,
        )
        self._next_number += 1
        email = booking.primary_email
        self._ledger.put_booking("booking_created", booking, primary_email=email)

    def _confirm(self, booking: Booking) -> None:
        confirmed = replace(
            booking, status=BookingStatus.CONFIRMED, confirmed_at=self._ledger.tick()
        )
        self._ledger.put_booking("booking_confirmed", confirmed)

    def _cancel(self, booking: Booking) -> None:
        reason = self._rng.choice(CANCELLATION_REASONS)
        cancelled = replace(
            booking,
            status=BookingStatus.CANCELLED,
            cancelled_at=self._ledger.tick(),
            cancellation_reason=reason,
        )
        self._ledger.put_booking("booking_cancelled", cancelled, reason=reason)

    def _note_request(self, booking: Booking) -> None:
        wish = replace(booking, special_request=self._rng.choice(REQUESTS))
        self._ledger.put_booking("booking_updated", wish, status=wish.status)

    def _change_party(self, booking: Booking) -> None:
        primary = booking.guests[0]
        count = self._rng.randrange(MAX_OCCUPANCY[booking.room_type])
        party = (primary, *draw_companions(self._rng, primary, count))
        self._ledger.put_booking("booking_party_updated", replace(booking, guests=party))

    def _extend(self, booking: Booking) -> None:
        longer = replace(booking, departure=booking.departure + timedelta(days=1))
        self._ledger.put_booking("booking_updated", longer, status=longer.status)

    # The night

    def _end_day(self) -> None:
        """Run the night audit: the next date, and what is due on it."""
        self._steps_today = 0
        self._ledger.begin_day()
        for booking in self._ledger.due_out():
            due = replace(booking, payment_status="BALANCE_DUE")
            self._ledger.put_booking("booking_updated", due, status=due.status)

"""The hotel's books: every change of a room or booking, and the event that tells of it."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Final

from server.demo.opening import OpeningScene
from server.demo.state import LEGAL_MOVES, Booking, DemoEvent, JsonObject, Room, RoomStatus, iso

_RESOLUTION: Final = timedelta(milliseconds=1)


class IllegalMove(ValueError):
    """A room was sent from one status to another that does not follow it."""


class Ledger:
    """Rooms and bookings as they stand, and the events not yet taken.

    Every change gets a timestamp later than all before it, to the millisecond that the envelope
    shows, so that "the later `meta.ts` wins" has one answer.
    """

    def __init__(self, slug: str, rng: random.Random, now: Callable[[], datetime]) -> None:
        self._slug = slug
        self._rng = rng
        self._now = now
        self._last_change = now()
        self._events: list[DemoEvent] = []
        scene = OpeningScene(rng, self._last_change)
        self._rooms = scene.rooms
        self._bookings = scene.bookings
        self.business_date: date = self._last_change.date()

    # What the books say

    @property
    def rooms(self) -> Iterable[Room]:
        """All rooms, by number."""
        return self._rooms.values()

    @property
    def bookings(self) -> Iterable[Booking]:
        """Bookings open, and those that ended on this business date."""
        return self._bookings.values()

    @property
    def last_change(self) -> datetime:
        """When the newest event happened."""
        return self._last_change

    def room(self, number: str) -> Room:
        """Return the room of that number."""
        return self._rooms[number]

    def arrivals(self) -> list[Booking]:
        """Return today's bookings whose guests are still to come."""
        return [b for b in self.bookings if b.is_expected and b.arrival <= self.business_date]

    def due_out(self) -> list[Booking]:
        """Return bookings whose guests are in house and leave today."""
        return [b for b in self.bookings if b.is_in_house and b.departure <= self.business_date]

    def sold(self) -> Counter[tuple[date, str]]:
        """Return how many rooms of each type are sold for each night."""
        return Counter(
            (booking.arrival + timedelta(days=night), booking.room_type)
            for booking in self.bookings
            if booking.is_open
            for night in range((booking.departure - booking.arrival).days)
        )

    def can_have(self, room: Room, booking: Booking) -> bool:
        """Whether the room will be free and in order for that booking tonight."""
        if room.status in {RoomStatus.MAINTENANCE_REQUIRED, RoomStatus.OUT_OF_ORDER}:
            return False
        if room.max_occupancy < len(booking.guests):
            return False
        tonight = self.business_date
        return not any(
            other.room_number == room.number
            and other.is_open
            and other.departure > tonight
            and other.booking_id != booking.booking_id
            for other in self.bookings
        )

    def count(self, *statuses: RoomStatus) -> int:
        """Return how many rooms are in any of these statuses."""
        return sum(room.status in statuses for room in self.rooms)

    # How they change

    def take_events(self) -> list[DemoEvent]:
        """Return what was recorded since the last call, in order."""
        events, self._events = self._events, []
        return events

    def tick(self) -> datetime:
        """Return the present, but always later than any change before."""
        self._last_change = max(self._now(), self._last_change + _RESOLUTION)
        return self._last_change

    def put_room(self, room: Room, *, occupancy: bool = False) -> None:
        """Write the room down and publish it; ``occupancy`` says that its guest came or left.

        Raises:
            IllegalMove: its new status does not follow the one it had.

        """
        before = self._rooms[room.number]
        if room.status is not before.status and room.status not in LEGAL_MOVES[before.status]:
            raise IllegalMove(f"room {room.number}: {before.status} to {room.status}")
        if occupancy:
            self._record("rooms", "room_occupancy_updated", room.occupancy(), self._of_room(room))
        old, new = before.payload(), room.payload()
        new["changed_fields"] = [name for name in new if new[name] != old[name]]
        at = self._record("rooms", "room_updated", new, self._of_room(room))
        self._rooms[room.number] = replace(room, updated_at=at)

    def put_booking(self, event: str, booking: Booking, **scope: str) -> None:
        """Write the booking down and publish it as that event; ``scope`` joins the event's."""
        full_scope: JsonObject = {"booking_id": booking.booking_id, **scope}
        if booking.room_number is not None:
            full_scope["room_number"] = booking.room_number
        payload = booking.payload(self.business_date)
        at = self._record("room-bookings", event, payload, full_scope)
        self._bookings[booking.booking_id] = replace(booking, updated_at=at)

    def begin_day(self) -> None:
        """Close the business date: forget what ended on it, and publish the night audit."""
        self.business_date += timedelta(days=1)
        ended = [b.booking_id for b in self.bookings if not b.is_open]
        for booking_id in ended:
            del self._bookings[booking_id]
        payload: JsonObject = {
            "healing_type": "night_audit",
            "business_date": self.business_date.isoformat(),
            "closed_bookings": ended,
        }
        scope: JsonObject = {"healing_type": "night_audit", "changes_count": len(ended)}
        self._record("room-bookings", "integrity_healed", payload, scope)

    @staticmethod
    def _of_room(room: Room) -> JsonObject:
        return {"room_number": room.number}

    def _record(self, area: str, name: str, payload: JsonObject, scope: JsonObject) -> datetime:
        at = self.tick()
        envelope: JsonObject = {
            "category": {"rooms": "rooms", "room-bookings": "room_booking"}[area],
            "type": name,
            "payload": payload,
            "meta": {
                "event_id": str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
                "hotel_slug": self._slug,
                "ts": iso(at),
                "scope": scope,
            },
        }
        self._events.append(DemoEvent(f"{self._slug}.{area}", name, envelope))
        return at

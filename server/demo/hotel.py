"""The simulated hotel: `hotel-killarney`, which never closes and never runs out of guests."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from typing import Final

from server.demo.ledger import Ledger
from server.demo.routine import Routine
from server.demo.state import LEGAL_MOVES, DemoEvent, JsonObject, RoomStatus, iso

__all__ = [
    "HOTEL_ID",
    "HOTEL_NAME",
    "HOTEL_SLUG",
    "LEGAL_MOVES",
    "DemoEvent",
    "Hotel",
    "RoomStatus",
]

HOTEL_ID: Final = 1
HOTEL_SLUG: Final = "hotel-killarney"
HOTEL_NAME: Final = "Hotel Killarney"


class Hotel:
    """The hotel's backend without its database: its state, and what happens next.

    Its business date begins as the date of ``now`` and moves on when the day's arrivals and
    departures are done, as a hotel's night audit does; a day takes about sixty steps.

    Args:
        rng: what it draws from; event ids too, so two runs that publish to one broker need
            different seeds.
        now: the present, with its time zone.

    """

    def __init__(self, rng: random.Random, now: Callable[[], datetime]) -> None:
        self._ledger = Ledger(HOTEL_SLUG, rng, now)
        self._routine = Routine(self._ledger, rng)

    def snapshot(self, *, payments: bool = False) -> JsonObject:
        """Return what the REST API would answer: the rooms and bookings with their last change.

        Events with a ``meta.ts`` up to a row's ``updated_at`` are already in it. Without
        ``payments`` bookings have no payment fields.
        """
        ledger = self._ledger
        return {
            "hotel": {"id": HOTEL_ID, "slug": HOTEL_SLUG, "name": HOTEL_NAME},
            "business_date": ledger.business_date.isoformat(),
            "as_of": iso(ledger.last_change),
            "rooms": [
                room.payload() | {"updated_at": iso(room.updated_at)} for room in ledger.rooms
            ],
            "bookings": [
                booking.payload(ledger.business_date, payments=payments)
                | {"updated_at": iso(booking.updated_at)}
                for booking in ledger.bookings
            ],
        }

    def step(self) -> list[DemoEvent]:
        """Let the next thing happen; returns its events in order, at least one."""
        self._routine.next_action()()
        return self._ledger.take_events()

"""The simulated hotel keeps the rules of a real one, however long it runs and whatever it draws."""

import random
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels_spec.cards import mask
from channels_spec.envelope import normalize
from channels_spec.reading import load_contract
from server.demo.hotel import HOTEL_SLUG, DemoEvent, Hotel
from server.demo.ledger import IllegalMove, Ledger
from server.demo.state import JsonObject, RoomStatus

OPENING = datetime(2026, 2, 27, 9, 30, tzinfo=UTC)
STEPS = 600
"""About ten hotel days."""

ROUND = {
    "READY_FOR_GUEST": "OCCUPIED",
    "OCCUPIED": "CHECKOUT_DIRTY",
    "CHECKOUT_DIRTY": "CLEANING_IN_PROGRESS",
    "CLEANING_IN_PROGRESS": "CLEANED_UNINSPECTED",
    "CLEANED_UNINSPECTED": "READY_FOR_GUEST",
}
REPAIR = {
    ("MAINTENANCE_REQUIRED", "OUT_OF_ORDER"),
    ("MAINTENANCE_REQUIRED", "CHECKOUT_DIRTY"),
    ("OUT_OF_ORDER", "CHECKOUT_DIRTY"),
}

REQUIRED = {
    "booking_created": {"booking_id", "status", "created_at", "guest_name"},
    "booking_confirmed": {"booking_id", "status", "confirmed_at"},
    "booking_updated": {"booking_id", "status"},
    "booking_party_updated": {"booking_id"},
    "booking_cancelled": {"booking_id", "status", "cancelled_at", "cancellation_reason"},
    "booking_checked_in": {"booking_id", "room_number"},
    "booking_checked_out": {"booking_id", "room_number"},
    "integrity_healed": set(),
    "room_updated": {
        "room_number",
        "room_status",
        "is_occupied",
        "is_out_of_order",
        "maintenance_required",
        "changed_fields",
    },
    "room_occupancy_updated": {"room_number", "is_occupied"},
}
SCOPE = {
    "booking_created": {"booking_id", "primary_email"},
    "booking_confirmed": {"booking_id"},
    "booking_updated": {"booking_id", "status"},
    "booking_party_updated": {"booking_id"},
    "booking_cancelled": {"booking_id", "reason"},
    "booking_checked_in": {"booking_id", "room_number"},
    "booking_checked_out": {"booking_id", "room_number"},
    "integrity_healed": {"healing_type", "changes_count"},
    "room_updated": {"room_number"},
    "room_occupancy_updated": {"room_number"},
}

Rows = dict[str, JsonObject]
seeds = st.integers(0, 2**32)
few_runs = settings(max_examples=3, deadline=None)


def open_hotel(seed: int) -> Hotel:
    """A hotel in which the clock stands still."""
    return Hotel(random.Random(seed), lambda: OPENING)


def run(hotel: Hotel, steps: int = STEPS) -> Iterator[DemoEvent]:
    """Let the hotel go on, and yield what it publishes."""
    for _ in range(steps):
        yield from hotel.step()


def payload(event: DemoEvent) -> JsonObject:
    """Return the event's payload."""
    return cast("JsonObject", event.envelope["payload"])


def meta(event: DemoEvent) -> JsonObject:
    """Return the event's meta."""
    return cast("JsonObject", event.envelope["meta"])


def rows(snapshot: Mapping[str, object], table: str, key: str) -> Rows:
    """Return a table of a snapshot by its key."""
    return {str(row[key]): row for row in cast("list[JsonObject]", snapshot[table])}


def rooms_of(hotel: Hotel) -> Rows:
    """Return the rooms as they stand, by number."""
    return rows(hotel.snapshot(), "rooms", "room_number")


def bookings_of(hotel: Hotel) -> Rows:
    """Return the bookings as they stand, payments included, by id."""
    return rows(hotel.snapshot(payments=True), "bookings", "booking_id")


def step_with(name: str) -> list[DemoEvent]:
    """Return the events of the first step in which that event happens."""
    hotel = open_hotel(1)
    return next(
        events
        for events in (hotel.step() for _ in range(STEPS))
        if any(event.name == name for event in events)
    )


@few_runs
@given(seeds)
def test_hotel_moves_rooms_only_as_housekeeping_allows(seed: int) -> None:
    """Each change of a room's status is a step of the round, a fault, or a repair."""
    hotel = open_hotel(seed)
    status = {number: room["room_status"] for number, room in rooms_of(hotel).items()}
    for event in run(hotel):
        if event.name != "room_updated":
            continue
        number, after = str(payload(event)["room_number"]), str(payload(event)["room_status"])
        before = str(status[number])
        broke = after == "MAINTENANCE_REQUIRED" and before in ROUND and before != "OCCUPIED"
        assert (
            after == before or ROUND.get(before) == after or broke or (before, after) in REPAIR
        ), f"room {number}: {before} to {after}"
        status[number] = after


@few_runs
@given(seeds)
def test_hotel_room_flags_agree_with_its_status(seed: int) -> None:
    """Occupied, out of order and maintenance flags say what the status says; guests live inside."""
    for event in run(open_hotel(seed)):
        if event.name != "room_updated":
            continue
        room = payload(event)
        assert (
            room["is_occupied"]
            == (room["room_status"] == "OCCUPIED")
            == bool(room["guests_in_room"])
        )
        assert room["is_out_of_order"] == (room["room_status"] == "OUT_OF_ORDER")
        if room["room_status"] in {"OUT_OF_ORDER", "MAINTENANCE_REQUIRED"}:
            assert room["maintenance_required"]
        if room["room_status"] == "READY_FOR_GUEST":
            assert not room["maintenance_required"]
        assert bool(room["maintenance_priority"]) == room["maintenance_required"]


@few_runs
@given(seeds)
def test_hotel_room_updated_names_exactly_what_changed(seed: int) -> None:
    """`changed_fields` is the difference to the room's snapshot before, and never empty."""
    hotel = open_hotel(seed)
    known = rooms_of(hotel)
    for event in run(hotel):
        if event.name != "room_updated":
            continue
        after = dict(payload(event))
        changed = cast("list[str]", after.pop("changed_fields"))
        before = known[str(after["room_number"])]
        assert changed
        assert changed == [name for name in after if after[name] != before[name]]
        known[str(after["room_number"])] = after


@few_runs
@given(seeds)
def test_hotel_event_carries_every_required_field(seed: int) -> None:
    """An envelope is complete by the hotel contract: category, type, payload, meta and scope."""
    for event in run(open_hotel(seed)):
        area, category = {
            True: ("rooms", "rooms"),
            False: ("room-bookings", "room_booking"),
        }[event.name.startswith("room_")]
        assert event.channel == f"{HOTEL_SLUG}.{area}"
        assert event.envelope["category"] == category
        assert event.envelope["type"] == event.name
        assert payload(event).keys() >= REQUIRED[event.name]
        assert all(payload(event)[name] is not None for name in REQUIRED[event.name])
        assert meta(event).keys() == {"event_id", "hotel_slug", "ts", "scope"}
        assert meta(event)["hotel_slug"] == HOTEL_SLUG
        scope = cast("JsonObject", meta(event)["scope"])
        assert scope.keys() >= SCOPE[event.name]
        assert all(value not in {None, ""} for value in scope.values())


@few_runs
@given(seeds)
def test_hotel_event_is_accepted_without_a_warning(seed: int) -> None:
    """The contract that the server runs on finds nothing to normalize in what the hotel sends."""
    contract = load_contract()
    for event in run(open_hotel(seed), steps=400):
        match = contract.match(event.channel)
        assert match is not None
        result = normalize(match, event.name, event.envelope, new_id=str, now=str)
        assert (result.violations, result.warnings) == ((), ())
        assert result.body == event.envelope


@few_runs
@given(seeds)
def test_hotel_payload_holds_nothing_like_a_card_number(seed: int) -> None:
    """No text of a payload would be masked."""
    for event in run(open_hotel(seed), steps=400):
        text = str(payload(event))
        assert mask(text) == text


@few_runs
@given(seeds)
def test_hotel_events_have_unique_ids_and_rising_times(seed: int) -> None:
    """Event ids are UUIDs that do not repeat; of two events the later one has the later `ts`."""
    events = list(run(open_hotel(seed)))
    ids = [uuid.UUID(str(meta(event)["event_id"])) for event in events]
    assert all(event_id.version == 4 for event_id in ids)
    assert len(set(ids)) == len(ids)
    times = [datetime.fromisoformat(str(meta(event)["ts"])) for event in events]
    assert all(earlier < later for earlier, later in pairwise(times))
    assert times[0] > OPENING


class Page:
    """What a subscriber makes of a snapshot and the events after it, the later `ts` winning."""

    def __init__(self, hotel: Hotel) -> None:
        self.rooms = rooms_of(hotel)
        self.bookings = bookings_of(hotel)
        self.business_date = hotel.snapshot()["business_date"]

    def apply(self, event: DemoEvent) -> None:
        change = {
            name: value for name, value in payload(event).items() if name != "changed_fields"
        } | {"updated_at": meta(event)["ts"]}
        if event.name.startswith("room_"):
            self.rooms[str(change["room_number"])] |= change
        elif event.name == "integrity_healed":
            self.business_date = change["business_date"]
            for booking_id in cast("list[str]", change["closed_bookings"]):
                del self.bookings[booking_id]
        else:
            self.bookings[str(change["booking_id"])] = change

    def bookings_today(self) -> Rows:
        """Return the bookings, each with the date that the hotel has reached since its event."""
        today = {"business_date": self.business_date}
        return {booking_id: row | today for booking_id, row in self.bookings.items()}


@few_runs
@given(seeds, st.integers(0, 120))
def test_hotel_snapshot_agrees_with_applied_events(seed: int, already: int) -> None:
    """A snapshot at any moment plus all events since is the snapshot now."""
    hotel = open_hotel(seed)
    for _ in run(hotel, already):
        pass
    page = Page(hotel)
    for _ in range(STEPS // 3):
        for event in hotel.step():
            page.apply(event)
        assert page.rooms == rooms_of(hotel)
        assert page.bookings_today() == bookings_of(hotel)


@few_runs
@given(seeds)
def test_hotel_gives_a_room_to_one_party_at_a_time(seed: int) -> None:
    """The occupied rooms are those of the bookings in house, one each, with that party inside."""
    hotel = open_hotel(seed)
    for _ in range(STEPS // 3):
        hotel.step()
        in_house = {
            str(row["room_number"]): row["party"]
            for row in bookings_of(hotel).values()
            if "checked_in_at" in row and "checked_out_at" not in row
        }
        inside = {
            number: [guest["name"] for guest in cast("list[JsonObject]", room["guests_in_room"])]
            for number, room in rooms_of(hotel).items()
            if room["is_occupied"]
        }
        assert in_house == inside


@few_runs
@given(seeds)
def test_hotel_never_runs_dry(seed: int) -> None:
    """Every step brings an event, days pass, and each kind of event and status comes up again."""
    hotel = open_hotel(seed)
    events: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    for _ in range(3 * STEPS):
        happened = hotel.step()
        assert happened
        events.update(event.name for event in happened)
        statuses.update(
            str(payload(event)["room_status"]) for event in happened if event.name == "room_updated"
        )
    assert events.keys() == REQUIRED.keys()
    assert statuses.keys() == set(RoomStatus)
    assert events["integrity_healed"] > 10  # days
    last_date = datetime.fromisoformat(str(hotel.snapshot()["business_date"])).date()
    assert last_date == OPENING.date() + timedelta(days=events["integrity_healed"])
    assert len(bookings_of(hotel)) < 60


def test_hotel_opens_with_guests_in_every_phase() -> None:
    """The page has something to show at once: a full board, arrivals, departures and faults."""
    hotel = open_hotel(1)
    assert len(rooms_of(hotel)) == 26
    assert {room["room_status"] for room in rooms_of(hotel).values()} == set(RoomStatus)
    today = OPENING.date().isoformat()
    bookings = bookings_of(hotel).values()
    assert any(row["arrival_date"] == today and "checked_in_at" not in row for row in bookings)
    assert any(row["departure_date"] == today and "checked_out_at" not in row for row in bookings)
    assert any(str(row["departure_date"]) > today and "checked_in_at" in row for row in bookings)
    assert any("checked_out_at" in row for row in bookings)


@pytest.mark.parametrize(
    "name, room_status",
    [("booking_checked_in", "OCCUPIED"), ("booking_checked_out", "CHECKOUT_DIRTY")],
)
def test_hotel_check_publishes_booking_occupancy_and_room(name: str, room_status: str) -> None:
    """A check-in or check-out is told on both channels, the room's two events in that order."""
    events = step_with(name)
    assert [(event.channel, event.name) for event in events] == [
        (f"{HOTEL_SLUG}.room-bookings", name),
        (f"{HOTEL_SLUG}.rooms", "room_occupancy_updated"),
        (f"{HOTEL_SLUG}.rooms", "room_updated"),
    ]
    assert len({payload(event)["room_number"] for event in events}) == 1
    assert payload(events[2])["room_status"] == room_status
    assert {"room_status", "is_occupied"} <= set(
        cast("list[str]", payload(events[2])["changed_fields"])
    )


def test_hotel_some_bookings_carry_payment_fields() -> None:
    """Role views have something to withhold, and bookings without payment are there to compare."""
    created = [event for event in run(open_hotel(1)) if event.name == "booking_created"]
    paid = {"payment_status" in payload(event) for event in created}
    assert paid == {True, False}
    assert all(
        ("payment_status" in payload(event)) == ("deposit_amount" in payload(event))
        for event in created
    )


def test_hotel_snapshot_withholds_payment_fields_unless_asked() -> None:
    """Whoever is not of finance reads no payment from the REST answer either."""
    hotel = open_hotel(1)
    fields = {
        name for row in rows(hotel.snapshot(), "bookings", "booking_id").values() for name in row
    }
    assert fields.isdisjoint({"payment_status", "deposit_amount"})
    assert fields | {"payment_status", "deposit_amount"} == {
        name for row in bookings_of(hotel).values() for name in row
    }


def test_hotel_repeats_itself_for_the_same_seed() -> None:
    """All that varies is drawn from the generator that is passed in."""
    assert list(run(open_hotel(5), 200)) == list(run(open_hotel(5), 200))
    assert list(run(open_hotel(5), 200)) != list(run(open_hotel(6), 200))


def test_ledger_refuses_an_illegal_move() -> None:
    """A room that is ready for a guest is not cleaned again."""
    ledger = Ledger(HOTEL_SLUG, random.Random(1), lambda: OPENING)
    ready = next(room for room in ledger.rooms if room.status is RoomStatus.READY_FOR_GUEST)
    with pytest.raises(IllegalMove, match="READY_FOR_GUEST to CLEANING_IN_PROGRESS"):
        ledger.put_room(replace(ready, status=RoomStatus.CLEANING_IN_PROGRESS))
    assert ledger.take_events() == []

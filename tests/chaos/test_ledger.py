"""The books notice what they are there to notice."""

from __future__ import annotations

import pytest

from tests.chaos.ledger import PROOF_LAG_MS, Ledger
from tests.chaos.plan import Part
from tests.chaos.publishing import Entrance, Event

WINDOW_S = 30
ROOMS = "hotel-1.rooms"


@pytest.fixture
def ledger() -> Ledger:
    """One client, subscribed at 1,000 ms, and three events, a second apart."""
    ledger = Ledger(WINDOW_S)
    ledger.track("client", ROOMS, Part.STAYS)
    ledger.entered("client", ROOMS, 1_000, 0)
    for number in (1, 2, 3):
        at_ms = 1_000 + number * 1_000
        ledger.born(Event(f"e{number}", ROOMS, Entrance.HTTP, number, at_ms, at_ms))
    return ledger


def hear(ledger: Ledger, *numbers: int) -> None:
    """Have the client get events by their numbers."""
    for number in numbers:
        ledger.heard("client", ROOMS, f"e{number}", "epoch", number)


def test_everything_once_or_twice_is_well(ledger: Ledger) -> None:
    """A copy is counted, and no fault."""
    hear(ledger, 1, 2, 1, 2, 3)
    verdict = ledger.verdict()
    assert ledger.complete()
    assert ledger.faults == []
    assert (verdict.due, verdict.received, verdict.copies, verdict.lost) == (3, 3, 2, [])


def test_missing_event_is_lost(ledger: Ledger) -> None:
    """Whoever was there all the time is excused by no gap."""
    hear(ledger, 1, 3)
    assert not ledger.complete()
    assert len(ledger.verdict().lost) == 1
    ledger.gap("client", ROOMS, 5_000, {"reason": "window_exceeded", "since": None})
    verdict = ledger.verdict()
    assert len(verdict.lost) == len(verdict.needless) == 1


@pytest.mark.parametrize(
    "numbers, fault",
    [((1, 3, 2), "after 3"), ((1, 2), "nobody published")],
    ids=["out of order", "unknown"],
)
def test_wrong_events_are_faults(ledger: Ledger, numbers: tuple[int, ...], fault: str) -> None:
    """A first sight behind a later one, and an event that is not of the channel."""
    hear(ledger, *numbers)
    if "nobody" in fault:
        ledger.heard("client", ROOMS, "e9", "epoch", 9)
    assert any(fault in each for each in ledger.faults)


def test_event_has_one_number_and_a_number_one_event(ledger: Ledger) -> None:
    """Whoever hears it, and however often."""
    hear(ledger, 1)
    ledger.heard("client", ROOMS, "e1", "epoch", 2)
    ledger.heard("client", ROOMS, "e2", "epoch", 1)
    assert "two numbers" in ledger.faults[0]
    assert "is e1 and e2" in ledger.faults[1]
    ledger.heard("client", ROOMS, "e3", "another", 1)
    assert ledger.epochs() == [ROOMS]


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
def test_who_was_away_for_too_long_is_told_a_gap(ledger: Ledger, *, told: bool) -> None:
    """What is missing then is not lost, as long as the gap covers it."""
    back_ms = 1_500 + WINDOW_S * 1_000 + PROOF_LAG_MS
    ledger.entered("client", ROOMS, back_ms, 1_500)
    if told:
        gap = {"reason": "window_exceeded", "since": "1970-01-01T00:00:01.500Z"}
        ledger.gap("client", ROOMS, back_ms, gap)
    verdict = ledger.verdict()
    assert verdict.gaps_due == 1
    assert len(verdict.gaps_missing) == (0 if told else 1)
    assert (len(verdict.lost), verdict.told_of) == ((0, 3) if told else (3, 0))


def test_who_goes_for_good_has_all_up_to_its_last(ledger: Ledger) -> None:
    """What came after that is nobody's loss."""
    ledger.track("leaver", ROOMS, Part.LEAVES)
    hear(ledger, 1, 2, 3)
    ledger.heard("leaver", ROOMS, "e2", "epoch", 2)
    assert [event.event_id for event in ledger.missing(ledger.tracks["leaver", ROOMS])] == ["e1"]


@pytest.mark.parametrize("number, lost", [(4, 0), (2, 1)], ids=["after", "before"])
def test_entry_of_the_stream_is_of_the_time_at_which_it_goes_out(
    ledger: Ledger, number: int, lost: int
) -> None:
    """A node may take it only after the gap began, whenever the backend had added it."""
    ledger.born(Event("late", ROOMS, Entrance.STREAM, 1, 1_500, 1_500))
    ledger.track("other", ROOMS, Part.STAYS)
    order = {"e1": 1, "e2": 2 if number == 4 else 3, "e3": 3 if number == 4 else 4, "late": number}
    for event_id, place in sorted(order.items(), key=lambda item: item[1]):
        ledger.heard("other", ROOMS, event_id, "epoch", place)
    back_ms = 3_500 + WINDOW_S * 1_000 + PROOF_LAG_MS
    hear(ledger, 1)
    ledger.entered("client", ROOMS, back_ms, 3_500)
    gap = {"reason": "window_exceeded", "since": "1970-01-01T00:00:02.900Z"}
    ledger.gap("client", ROOMS, back_ms, gap)
    assert len([each for each in ledger.verdict().lost if "late" in each]) == lost

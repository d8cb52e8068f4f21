"""`bellhop demo` in a real browser: what the backend publishes is on the page."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from playwright.async_api import expect

from tests.browser.conftest import DemoPage
from tests.harness import BOOKINGS, ROOMS, ROOT, eventually, room_updated

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
]

DOCUMENTED = {"rooms-1.0.json": ROOMS, "room-bookings-1.0.json": BOOKINGS}


def _documented(file: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads((ROOT / "tests/data" / file).read_bytes())
    return events


def _now(event_id: str, room: str = "101", **payload: Any) -> dict[str, Any]:
    event = room_updated(room, **payload)
    event["meta"] |= {"event_id": event_id, "ts": datetime.now(UTC).isoformat()}
    return event


async def _fed(demo: DemoPage, event_id: str) -> list[dict[str, str]]:
    """Await that an event is in the feed, and return the feed."""
    await demo.page.wait_for_selector(f'#feed > li[data-event-id="{event_id}"]')
    return await demo.feed()


async def test_front_desk_is_live_and_names_who_looks(demo: DemoPage) -> None:
    """The page shows the hotel's rooms, that it is live, and its own viewer by name."""
    await expect(demo.page.locator("#connection-word")).to_have_text("Live")
    await expect(demo.page.locator("#banner")).to_be_hidden()
    await expect(demo.page.locator("#floors li[data-room]")).to_have_count(26)
    await expect(demo.page.locator('#floors li[data-room="101"]')).to_be_visible()
    await expect(demo.page.locator("#viewers")).to_contain_text("Niamh Kelly", timeout=30_000)
    assert demo.faults == []


@pytest.mark.parametrize("file", DOCUMENTED)
async def test_documented_events_are_on_the_page_in_order(file: str, demo: DemoPage) -> None:
    """What the hotel's documents give as examples arrives as written, numbered from 1."""
    events = _documented(file)
    for event in events:
        await demo.server.publish(DOCUMENTED[file], event)
    feed = await _fed(demo, events[-1]["meta"]["event_id"])
    assert feed == [
        {"eventId": event["meta"]["event_id"], "type": event["type"], "sequence": str(number)}
        for number, event in enumerate(events, start=1)
    ]
    channel = demo.page.locator(f'#channels [data-channel="{DOCUMENTED[file]}"]')
    await expect(channel).to_have_attribute("data-sequence", str(len(events)))
    assert demo.faults == []


async def test_room_card_follows_its_events(demo: DemoPage) -> None:
    """A room's card shows the state that the latest event gave it."""
    card = demo.page.locator('#floors li[data-room="101"]')
    for status in ("CLEANING_IN_PROGRESS", "CLEANED_UNINSPECTED", "READY_FOR_GUEST"):
        await demo.server.publish(ROOMS, _now(str(uuid4()), room_status=status))
        await expect(card).to_have_attribute("data-status", status)


async def test_room_card_follows_an_event_whose_producers_clock_is_behind(demo: DemoPage) -> None:
    """The server's numbers give the order: an old `meta.ts` does not hold an event back."""
    event = next(e for e in _documented("rooms-1.0.json") if e["type"] == "room_updated")
    assert event["meta"]["ts"].startswith("2025-12-20")
    await demo.server.publish(ROOMS, event)
    card = demo.page.locator('#floors li[data-room="101"]')
    await expect(card).to_have_attribute("data-status", event["payload"]["room_status"])


async def test_event_id_is_taken_once_by_server_and_page(demo: DemoPage) -> None:
    """A second publish on the channel uses up no number; one on another channel is not shown."""
    twice, last = str(uuid4()), str(uuid4())
    await demo.server.publish(ROOMS, _now(twice))
    await demo.server.publish(ROOMS, _now(twice))
    booking = _documented("room-bookings-1.0.json")[1]
    await demo.server.publish(BOOKINGS, {**booking, "meta": {**booking["meta"], "event_id": twice}})
    await demo.server.publish(BOOKINGS, booking)
    await _fed(demo, booking["meta"]["event_id"])
    await demo.server.publish(ROOMS, _now(last))
    feed = await _fed(demo, last)
    assert [(line["eventId"], line["sequence"]) for line in feed] == [
        (twice, "1"),
        (booking["meta"]["event_id"], "2"),
        (last, "2"),
    ]


async def test_page_tells_that_the_server_is_gone_and_recovers(demo: DemoPage) -> None:
    """A killed server shows at once as a banner; after a restart events arrive again."""
    banner = demo.page.locator("#banner")
    demo.server.end(signal.SIGKILL)
    await expect(banner).to_be_visible()
    await expect(banner).to_contain_text("Live updates disconnected")
    await expect(demo.page.locator("body")).to_have_attribute("data-connection", "disconnected")

    demo.server.start()
    await demo.server.wait_until_ready()
    await demo.page.wait_for_selector("body[data-connection=connected]", timeout=60_000)
    await expect(banner).to_be_hidden()
    after = str(uuid4())
    await demo.server.publish(ROOMS, _now(after, "102"))
    (line,) = [line for line in await _fed(demo, after) if line["eventId"] == after]
    assert line["sequence"] == "1"


async def test_malformed_event_does_not_stop_the_page(demo: DemoPage) -> None:
    """An event that the server refuses is not seen, and the next one is."""
    await demo.server.publish(ROOMS, b"not json")
    await demo.server.publish(ROOMS, {**room_updated(), "payload": "not an object"})
    good = str(uuid4())
    await demo.server.publish(ROOMS, _now(good))
    feed = await _fed(demo, good)
    assert [(line["eventId"], line["sequence"]) for line in feed] == [(good, "1")]

    async def both_kept() -> bool:
        async with demo.server.redis() as client:
            return bool(await client.xlen("bellhop:rejected") == 2)

    await eventually(both_kept)
    assert demo.faults == []

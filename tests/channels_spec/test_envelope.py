from __future__ import annotations

import copy
from typing import Any

import pytest

from channels_spec.envelope import Normalized
from tests.channels_spec.bodies import (
    ENVELOPE,
    FEED,
    GUEST,
    NEW_ID,
    NOW,
    accepted,
    envelope,
    normalized,
    refusal,
    spec,
)

ROOM_MOVED = {"payload": {"room_id": 7, "status": "OCCUPIED", "changed_at": "2025-12-20"}}


def test_envelope_stays_as_it_is_when_nothing_is_wrong() -> None:
    """A complete envelope passes unchanged, without fault, and the producer's object untouched."""
    body = envelope()
    assert normalized(body) == Normalized(
        event="room_updated",
        spec=spec("room_updated"),
        body=ENVELOPE,
        enveloped=True,
        event_id="e-1",
        hotel_slug="grand",
        violations=(),
        warnings=(),
    )
    assert body == ENVELOPE


@pytest.mark.parametrize(
    "body, result, warnings",
    [
        (
            envelope(type=..., event_type="room_updated"),
            ENVELOPE,
            ["/event_type: accepted for type"],
        ),
        (envelope(event_type="room_deleted"), ENVELOPE, []),
        (envelope(category="room"), ENVELOPE, ["/category: 'room' accepted for 'rooms'"]),
        (
            envelope(meta={"scope": "staff"}),
            envelope(meta={"scope": {"audience": "staff"}}),
            [
                "/meta/scope: a string accepted as the audience",
                "/meta/scope/room_number: missing",
            ],
        ),
        (
            envelope(meta={"scope": ...}),
            envelope(meta={"scope": ...}),
            ["/meta/scope/room_number: missing"],
        ),
        (
            envelope(meta={"ts": ...}),
            envelope(meta={"ts": NOW}),
            ["/meta/ts: missing; filled in"],
        ),
        (
            envelope(meta={"ts": 1766677523}),
            envelope(meta={"ts": NOW}),
            ["/meta/ts: missing; filled in"],
        ),
        (
            envelope(meta={"event_id": ...}),
            envelope(meta={"event_id": NEW_ID}),
            ["/meta/event_id: missing; filled in"],
        ),
        (
            envelope(meta={"event_id": None}),
            envelope(meta={"event_id": NEW_ID}),
            ["/meta/event_id: missing; filled in"],
        ),
        (envelope(meta={"sequence": 4, "epoch": "theirs"}), ENVELOPE, []),
        (envelope(extra={"a": [1]}), envelope(extra={"a": [1]}), []),
    ],
)
def test_envelope_is_normalized(
    body: dict[str, Any], result: dict[str, Any], warnings: list[str]
) -> None:
    """Accepted spellings become the one form, each with its warning and no violation."""
    given = copy.deepcopy(body)
    seen = normalized(body)
    assert seen.body == result
    assert list(map(str, seen.warnings)) == warnings
    assert seen.violations == ()
    assert body == given


@pytest.mark.parametrize(
    "body",
    [
        envelope(),
        envelope(type=..., event_type="room_updated"),
        {
            "meta": {"hotel_slug": "grand"},
            "payload": {},
            "category": "room",
            "type": "room_deleted",
        },
        {"meta": {}, "payload": {}},
    ],
)
def test_meta_is_last_and_not_empty(body: dict[str, Any]) -> None:
    """The number is spliced in at the end of meta, which is therefore the end of the body."""
    seen = normalized(body, event="room_updated").body
    assert list(seen)[-1] == "meta"
    assert seen["meta"]


@pytest.mark.parametrize(
    "body, more, violations",
    [
        (
            envelope(category="booking"),
            {},
            ["/category: expected rooms on {hotel_slug}.rooms"],
        ),
        (
            envelope(category=...),
            {"channel": FEED},
            ["/category: expected room_booking or room_service or rooms on staff-hotel-{hotel_id}"],
        ),
        (
            envelope(category="room_booking", type="booking_moved"),
            {"channel": "grand.booking"},
            [
                (
                    "/category: expected booking on {hotel_slug}.booking;"
                    " room bookings go to {hotel_slug}.room-bookings"
                )
            ],
        ),
        (
            envelope(category="room"),
            {"channel": "grand.room-bookings", "event": "booking_updated"},
            [
                "/type: differs from the event's name 'booking_updated'",
                "/category: expected room_booking on {hotel_slug}.room-bookings",
            ],
        ),
        (
            envelope(type="room_status_changed", meta={"scope": [1]}) | ROOM_MOVED,
            {},
            ["/meta/scope: must be an object"],
        ),
        (envelope(meta={"hotel_slug": ...}), {}, ["/meta/hotel_slug: missing"]),
        (envelope(meta={"hotel_slug": None}), {"channel": FEED}, ["/meta/hotel_slug: missing"]),
        (
            envelope(type="room_painted"),
            {},
            ["/type: 'room_painted' is not an event of {hotel_slug}.rooms"],
        ),
        (envelope(type=...), {"event": "room_updated"}, ["/type: missing"]),
        (envelope(type=""), {"event": "room_updated"}, ["/type: missing"]),
        (
            envelope(type="room_deleted"),
            {"event": "room_updated"},
            ["/type: differs from the event's name 'room_updated'"],
        ),
        (
            envelope(category="booking", type="Spa-Booked"),
            {"channel": "grand.booking"},
            ["/type: 'Spa-Booked' is not an event of {hotel_slug}.booking"],
        ),
    ],
)
def test_envelope_breaks_the_contract(
    body: dict[str, Any], more: dict[str, Any], violations: list[str]
) -> None:
    """What the contract calls a violation is one, is told with its place, and can be delivered."""
    assert accepted(body, **more) == (violations, [])


def test_event_name_wins_over_type() -> None:
    """Where the two differ, the event goes out under the name that it was published by."""
    seen = normalized(envelope(type="room_deleted"), event="room_updated")
    assert (seen.event, seen.body["type"], seen.spec) == (
        "room_updated",
        "room_updated",
        spec("room_updated"),
    )


def test_hotel_is_filled_in_where_the_channel_says_it() -> None:
    """A missing slug is a violation; where the channel's name has one it is that."""
    named = normalized(envelope(meta={"hotel_slug": ...}))
    assert (named.hotel_slug, named.body["meta"]) == ("grand", ENVELOPE["meta"])
    unnamed = normalized(envelope(meta={"hotel_slug": ...}), channel=FEED)
    assert unnamed.hotel_slug == ""
    assert "hotel_slug" not in unnamed.body["meta"]  # type: ignore[operator]  # meta is a dict


def test_hotel_of_a_channel_without_slug_is_that_of_meta() -> None:
    """Where the name has no hotel, the event's own counts."""
    assert normalized(envelope(meta={"hotel_slug": "sea-view"}), channel=FEED).hotel_slug == (
        "sea-view"
    )


@pytest.mark.parametrize(
    "body, more, reason",
    [
        ([], {}, "/: an event's body must be a JSON object"),
        (None, {"event": "room_updated"}, "/: an event's body must be a JSON object"),
        (
            {"payload": {}},
            {},
            "/: neither an envelope (payload, meta) nor an event's name",
        ),
        (envelope(type=...), {}, "/type: missing: it is the event's name"),
        (envelope(type=""), {}, "/type: missing: it is the event's name"),
        (envelope(type=5), {}, "/type: must be a string"),
        (envelope(type=..., event_type={}), {}, "/type: must be a string"),
        (envelope(type="a" * 201), {}, "/type: longer than 200 characters"),
        (envelope(category=["rooms"]), {}, "/category: must be a string"),
        (envelope(category={}), {"channel": GUEST, "event": "confirmed"}, "/category: must be a"),
        (envelope(meta={"event_id": 5}), {}, "/meta/event_id: must be a string of 1 to 128"),
        (envelope(meta={"event_id": ""}), {}, "/meta/event_id: must be a string of 1 to 128"),
        (envelope(meta={"event_id": "x" * 129}), {}, "/meta/event_id: must be a string of 1 to"),
        (envelope(meta={"event_id": "é"}), {}, "/meta/event_id: must be a string of 1 to 128"),
        (envelope(meta={"event_id": "a\nb"}), {}, "/meta/event_id: must be a string of 1 to"),
        (envelope(meta={"event_id": "a\n"}), {}, "/meta/event_id: must be a string of 1 to 128"),
        (envelope(meta={"hotel_slug": 5}), {}, "/meta/hotel_slug: must be a hotel's slug"),
        (
            envelope(meta={"hotel_slug": ""}),
            {"channel": FEED},
            "/meta/hotel_slug: must be a hotel's slug",
        ),
        (
            envelope(meta={"hotel_slug": "x" * 201}),
            {"channel": FEED},
            "/meta/hotel_slug: must be a hotel's slug",
        ),
        (
            envelope(meta={"hotel_slug": "hôtel"}),
            {"channel": FEED},
            "/meta/hotel_slug: must be a hotel's slug",
        ),
        *(
            (
                envelope(meta={"hotel_slug": slug}),
                {},
                f"/meta/hotel_slug: {slug!r} differs from the channel's hotel 'grand'",
            )
            for slug in ("sea-view", "Grand", "grand\n", "grand ")
        ),
        (
            {"room_id": 1, "meta": {"hotel_slug": "sea-view"}},
            {"event": "room_updated"},
            "/meta/hotel_slug: 'sea-view' differs from the channel's hotel 'grand'",
        ),
        (
            envelope(category="guest_booking", type="booking_created"),
            {"channel": GUEST},
            "/type: 'booking_created' is not an event of guest-booking-{booking_id}",
        ),
        (
            {"booking": {}},
            {"channel": GUEST, "event": "booking_created"},
            "/type: 'booking_created' is not an event of guest-booking-{booking_id}",
        ),
        (
            envelope(),
            {"channel": "presence-grand.front-desk"},
            "/: presence-grand.front-desk is a roster: it carries no events",
        ),
    ],
)
def test_body_is_refused_in_every_mode(body: object, more: dict[str, Any], reason: str) -> None:
    """What cannot be routed, or belongs to another hotel, is refused with its place."""
    assert refusal(body, **more).startswith(reason)

from __future__ import annotations

from typing import Any

import pytest

from channels_spec.envelope import Normalized, conflation_key, scope_values
from channels_spec.faults import Fault
from tests.channels_spec.bodies import GUEST, NEW_ID, accepted, envelope, normalized, spec
from tests.people import CONTRACT, match


@pytest.mark.parametrize(
    "body",
    [
        {"room_id": 7, "room_status": "OCCUPIED"},
        {"booking": {"id": 1}, "action": "x", "timestamp": "t"},
        {"payload": [], "meta": {}},
        {"payload": {}, "meta": "x"},
        {},
    ],
)
def test_legacy_body_goes_out_as_it_came(body: dict[str, Any]) -> None:
    """A body that is no envelope is a violation; it has no number, and nothing is changed."""
    assert normalized(body, event="room_updated") == Normalized(
        event="room_updated",
        spec=spec("room_updated"),
        body=body,
        enveloped=False,
        event_id=NEW_ID,
        hotel_slug="grand",
        violations=(Fault("", "not an envelope of category, type, payload and meta"),),
        warnings=(),
    )


def test_legacy_body_of_an_unknown_event_has_both_violations() -> None:
    """Neither fault hides the other."""
    assert accepted({}, event="room_painted") == (
        [
            "/: not an envelope of category, type, payload and meta",
            "/type: 'room_painted' is not an event of {hotel_slug}.rooms",
        ],
        [],
    )


def test_legacy_body_belongs_to_the_hotel_that_it_names() -> None:
    """Two hotels may share a booking id: a body that names its hotel is held to it."""
    body: dict[str, Any] = {"booking_id": 7, "meta": {"hotel_slug": "sea-view"}}
    assert normalized(body, channel=GUEST, event="confirmed").hotel_slug == "sea-view"
    assert normalized({"booking_id": 7}, channel=GUEST, event="confirmed").hotel_slug == ""


@pytest.mark.parametrize(
    "event, synonym",
    [
        (spec.name, key)
        for family in CONTRACT.families
        if family.name == "guestBooking"
        for key, spec in family.events.items()
        if key != spec.name
    ],
)
def test_synonym_goes_out_under_the_events_own_name(event: str, synonym: str) -> None:
    """A guest event's short name is the event, whichever of the two names stands where."""
    body = envelope(category="guest_booking", type=synonym)
    for name, stated in ((None, synonym), (synonym, synonym), (synonym, event), (event, synonym)):
        seen = normalized({**body, "type": stated}, channel=GUEST, event=name)
        assert (seen.event, seen.body["type"], seen.violations) == (event, event, ())
        assert seen.spec is spec(event, GUEST)


@pytest.mark.parametrize("event", ["table_booked", "spa2_moved", "x"])
def test_unlisted_event_is_accepted_where_the_family_takes_any(event: str) -> None:
    """Restaurant and spa bookings need not be listed; their names are snake_case."""
    body = envelope(category="booking", type=event)
    seen = normalized(body, channel="private-grand.booking")
    family = match("grand.booking").family
    assert (seen.event, seen.spec, seen.violations) == (event, family.unlisted, ())
    assert seen.body["type"] == event


def test_room_booking_event_is_told_where_it_belongs() -> None:
    """The channel of other bookings takes any name but those of room bookings."""
    violations, _ = accepted(
        envelope(category="booking", type="booking_created"), channel="grand.booking"
    )
    told = "'booking_created' is not an event of {hotel_slug}.booking"
    assert violations == [f"/type: {told}; it belongs to {{hotel_slug}}.room-bookings"]


@pytest.mark.parametrize(
    "event", ["Table", "table__x", "_x", "x_", "table-booked", "t\n", "tàble", "table_٣", "2x"]
)
def test_unlisted_event_is_a_violation_when_it_is_not_snake_case(event: str) -> None:
    """Whatever else is no event, not even by a newline or digits of another script."""
    violations, _ = accepted(envelope(category="booking", type=event), channel="grand.booking")
    assert violations == [f"/type: {event!r} is not an event of {{hotel_slug}}.booking"]


@pytest.mark.parametrize(
    "scope, values",
    [
        (
            {"booking_id": "B", "room_number": 12, "x": 1},
            (("booking_id", "B"), ("room_number", "12")),
        ),
        ({"room_number": "x" * 200}, (("room_number", "x" * 128),)),
        ({"room_number": "é" * 128}, (("room_number", "é" * 64),)),
        ({"room_number": "x" + "é" * 128}, (("room_number", "x" + "é" * 63),)),
        ({"room_number": True, "booking_id": None}, ()),
        ({"room_number": 1.5, "booking_id": ["B"]}, ()),
        ({"room_number": ""}, (("room_number", ""),)),
        ("staff", ()),
        (None, ()),
    ],
)
def test_scope_values_are_the_two_that_may_be_filtered_by(
    scope: object, values: tuple[tuple[str, str], ...]
) -> None:
    """Text and whole numbers only, and never more bytes than a bus message's header takes."""
    assert scope_values({"meta": {"scope": scope}}) == values


def test_scope_values_are_none_when_there_is_no_meta() -> None:
    """A legacy body cannot be filtered by."""
    assert scope_values({"meta": "x"}) == ()
    assert scope_values({}) == ()


OCCUPANCY: dict[str, Any] = {"category": "rooms", "type": "room_occupancy_updated"}


@pytest.mark.parametrize(
    "body, channel, key",
    [
        (
            envelope(**OCCUPANCY, payload={"room_number": 12, "is_occupied": True}),
            "grand.rooms",
            "room_occupancy_updated grand 12",
        ),
        (
            envelope(**OCCUPANCY, payload={"room_number": "12"}, meta={"hotel_slug": "sea-view"}),
            "staff-hotel-1",
            "room_occupancy_updated sea-view 12",
        ),
        # Whose room is it? Two hotels may share the channel.
        (
            envelope(**OCCUPANCY, payload={"room_number": 12}, meta={"hotel_slug": ...}),
            "staff-hotel-1",
            "",
        ),
        # Whoever reads this acts on the change: each one counts.
        (
            envelope(**OCCUPANCY, payload={"room_number": 12, "changed_fields": []}),
            "grand.rooms",
            "",
        ),
        (envelope(**OCCUPANCY, payload={"is_occupied": True}), "grand.rooms", ""),
        (envelope(**OCCUPANCY, payload={"room_number": {"number": 1}}), "grand.rooms", ""),
        (envelope(), "grand.rooms", ""),
        (envelope(type="room_painted"), "grand.rooms", ""),
        (
            {
                "category": "staff_chat",
                "payload": {"conversation_id": 5},
                "meta": {"hotel_slug": "h"},
            },
            "staff-chat-12",
            "staff_chat_unread_updated h 5",
        ),
    ],
)
def test_conflation_key_says_of_what_only_the_latest_counts(
    body: dict[str, Any], channel: str, key: str
) -> None:
    """Of one room, or one conversation, of one hotel; and never where a change would be lost."""
    event = body.get("type", "staff_chat_unread_updated")
    assert conflation_key(normalized(body, channel=channel, event=event)) == key


def test_legacy_body_is_not_conflated() -> None:
    """It has no payload of which one could know what it replaces."""
    body = {"room_number": 12, "is_occupied": True}
    assert conflation_key(normalized(body, event="room_occupancy_updated")) == ""

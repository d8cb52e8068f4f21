"""Payloads against the contract's schemas."""

from __future__ import annotations

from typing import Any

import pytest

from channels_spec.document import ContractError
from channels_spec.faults import pointer
from channels_spec.reading import load_contract
from channels_spec.validate import MAX_FAULTS, PayloadCheck
from tests.channels_spec.test_loading import changed, load
from tests.people import CONTRACT

# Straight from the table of the hotel contract: what each event requires of its payload.
ROOM: dict[str, Any] = {
    "room_number": "101",
    "room_status": "READY_FOR_GUEST",
    "is_occupied": False,
    "is_out_of_order": False,
    "maintenance_required": False,
    "changed_fields": ["room_status"],
}
IN_ROOM = {"booking_id": "BK-1", "room_number": "101"}
REQUIRED: dict[str, dict[str, Any]] = {
    "booking_created": {
        "booking_id": "BK-1",
        "status": "PENDING",
        "created_at": "2025-12-20T10:00:00Z",
        "guest_name": "Aoife Byrne",
    },
    "booking_confirmed": {"booking_id": "BK-1", "status": "CONFIRMED", "confirmed_at": "now"},
    "booking_updated": {"booking_id": "BK-1", "status": "CONFIRMED"},
    "booking_party_updated": {"booking_id": "BK-1"},
    "booking_cancelled": {
        "booking_id": "BK-1",
        "status": "CANCELLED",
        "cancelled_at": "now",
        "cancellation_reason": None,
    },
    "booking_checked_in": IN_ROOM,
    "booking_checked_out": IN_ROOM,
    "integrity_healed": {},
    "party_healed": {"booking_id": "BK-1"},
    "guests_healed": {"booking_id": "BK-1"},
    "room_updated": ROOM,
    "rooms_updated": {"rooms": [ROOM]},
    "room_occupancy_updated": {"room_number": 101, "is_occupied": True},
    "room_status_changed": {"room_id": 7, "status": "OCCUPIED", "changed_at": "now"},
    "room_status_updated": {"room_id": 7, "room_status": "OCCUPIED"},
    "room_deleted": {"room_id": 7, "room_number": 101},
    "room_assigned": IN_ROOM,
    "booking_room_assigned": IN_ROOM,
    "room_service_order_created": {"order_id": 5, "room_number": "101"},
    "chat_message_created": {"message_id": 5, "body": "Hello", "created_at": "now"},
    "staff_chat_message_created": {"message_id": 5, "conversation_id": 3},
    "staff_chat_message_edited": {"message_id": 5, "conversation_id": 3},
    "staff_chat_message_deleted": {"message_id": 5, "conversation_id": 3},
    "staff_chat_unread_updated": {"conversation_id": 3, "unread_count": 0},
}
EVENTS = [
    (family.name, event)
    for family in CONTRACT.families
    for event in {spec.name: spec for spec in family.events.values()}.values()
]


def test_required_table_names_every_event() -> None:
    """No event of the contract is forgotten here."""
    assert {event.name for _, event in EVENTS} == set(REQUIRED)


@pytest.mark.parametrize("family, event", EVENTS, ids=lambda value: getattr(value, "name", value))
def test_payload_passes_with_exactly_what_is_required(family: str, event: Any) -> None:
    """The required fields are enough, more may be there, and each of them must be."""
    payload = REQUIRED[event.name]
    assert event.check.faults(payload) == []
    assert event.check.faults({**payload, "more": {"of": ["anything"]}}) == []
    for missing in payload:
        (fault,) = event.check.faults({k: v for k, v in payload.items() if k != missing})
        assert str(fault) == f'/payload: "{missing}" is a required property'


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"room_status": "DIRTY"}, "/payload/room_status: the value is not one of"),
        ({"is_occupied": "no"}, '/payload/is_occupied: the value is not of type "boolean"'),
        ({"changed_fields": "room_status"}, "/payload/changed_fields: the value is not of type"),
        ({"changed_fields": [1]}, "/payload/changed_fields/0: the value is not of type"),
        ({"maintenance_priority": "SOON"}, "/payload/maintenance_priority: the value is not one"),
        ({"guests_in_room": "two"}, "/payload/guests_in_room: the value is not of types"),
        ({"room_number": 1.5}, "/payload/room_number: the value is not of types"),
    ],
)
def test_room_updated_is_held_to_its_types(change: dict[str, Any], fault: str) -> None:
    """A fault names the place by JSON pointer and never the value, which might be a guest's."""
    (found,) = _room_updated().faults({**ROOM, **change})
    assert str(found).startswith(fault)


@pytest.mark.parametrize(
    "change",
    [
        {"room_number": 101},
        {"maintenance_priority": None},
        {"maintenance_priority": "URGENT"},
        {"guests_in_room": 2},
        {"guests_in_room": [{"name": "Aoife"}]},
    ],
)
def test_room_updated_takes_both_spellings_of_the_documents(change: dict[str, Any]) -> None:
    """Documents 002 and 004 differ in these; both pass."""
    assert _room_updated().faults({**ROOM, **change}) == []


def test_room_may_be_an_object_where_a_guest_moves_in() -> None:
    """A room is given by number or as an object that has one."""
    (event,) = [each for name, each in EVENTS if (name, each.name) == MOVED_IN]
    assert event.check is not None
    assert event.check.faults({"booking_id": "BK-1", "room_number": {"room_number": 101}}) == []
    assert event.check.faults({"booking_id": "BK-1", "room_number": {"floor": 1}}) != []


MOVED_IN = ("roomBookings", "booking_checked_in")


def test_faults_of_one_payload_are_bounded() -> None:
    """A body with a thousand faults is not answered with a thousand."""
    check = PayloadCheck({"items": {"type": "string"}}, {})
    assert len(check.faults([1] * 1000)) == MAX_FAULTS


def test_pointer_escapes_what_a_pointer_must() -> None:
    """RFC 6901: a slash and a tilde in a key are no separators."""
    assert pointer(["a/b", "c~d", 0]) == "/a~1b/c~0d/0"
    assert pointer([]) == ""


def test_contract_is_refused_when_a_schema_is_no_schema(tmp_path: Any) -> None:
    """A schema that cannot be compiled is told with the message that it belongs to."""
    payload = {"properties": {"payload": {"type": "objekt"}}}
    with pytest.raises(ContractError, match=r"channels\.rooms\.messages\.cleaned\.payload: "):
        load(tmp_path, changed("components/messages/cleaned/payload", payload))


def test_contract_checks_a_payload_given_without_all_of(tmp_path: Any) -> None:
    """A message may say directly what its envelope's payload is."""
    payload = {"properties": {"payload": {"required": ["room_number"]}}}
    contract = load(tmp_path, changed("components/messages/cleaned/payload", payload))
    check = contract.families[0].events["room_cleaned"].check
    assert check is not None
    assert [fault.pointer for fault in check.faults({})] == ["/payload"]


def test_contract_is_refused_when_the_stand_in_is_not_there(tmp_path: Any) -> None:
    """The message for unlisted events must be one of the channel's."""
    with pytest.raises(ContractError, match="x-bellhop-unlisted: expected the name of a message"):
        load(tmp_path, changed("channels/rooms/x-bellhop-unlisted", "other"))


def _room_updated() -> PayloadCheck:
    match = load_contract().match("grand.rooms")
    assert match is not None
    check = match.family.events["room_updated"].check
    assert check is not None
    return check

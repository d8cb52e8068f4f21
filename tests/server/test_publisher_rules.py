"""What the contract says of an event beside its shape; and events of clients."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import yaml

from auth.apps import WebhookKind
from channels_spec.document import Document
from channels_spec.reading import HOTEL_CONTRACT, contract_of
from server.broker.interface import Receipt
from server.broker.message import Announcement, Kind
from server.encoding import Event
from server.protocol.effects import Relay
from server.publisher import ContractMode, Publisher
from tests.people import APP, CONTRACT
from tests.server.desk import Desk
from tests.server.test_publisher import LIMIT, ROOMS, publisher, refusal, room


def with_rules(**rules: Any) -> Publisher:
    """Return a publisher by whose contract `room_updated` has these rules."""
    document: Any = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    message = document["components"]["messages"]["room_updated"]
    message.update({f"x-bellhop-{name.replace('_', '-')}": value for name, value in rules.items()})
    contract = contract_of(Document(HOTEL_CONTRACT, document, None))
    return Publisher(contract, Desk(), mode=ContractMode.WARN, serves_unlisted=False)


def test_contract_may_allow_an_event_to_be_larger_or_make_it_smaller() -> None:
    """The bound is the event's own; the refusal names it."""
    body = {**room(), "note": "x" * LIMIT}
    assert with_rules(max_bytes=20_480).prepare(Event("1", ROOMS, None, body)).event_id == "e-1"
    assert refusal(Event("1", ROOMS, None, room()), with_rules(max_bytes=100)) == (
        413,
        "the event exceeds the allowed maximum (100 bytes)",
    )


def test_contract_may_keep_an_event_out_of_the_history() -> None:
    """What only rings a bell is not rung again."""
    event = Event("1", ROOMS, None, room())
    assert with_rules().prepare(event).replayed
    assert not with_rules(replay=False).prepare(event).replayed


@pytest.mark.parametrize(
    "payload",
    [
        {"room_number": None},
        {"room_number": ["12"]},
        {"room_status": None},
        {"room_status": 5},
    ],
)
def test_move_is_not_watched_when_it_says_not_what_or_where(payload: dict[str, Any]) -> None:
    """Neither is a body without an envelope, which says of no hotel that it is its."""
    by = publisher(ContractMode.WARN)
    body = {**room(), "payload": {**room()["payload"], **payload}}
    assert by.prepare(Event("1", ROOMS, None, body)).move is None
    legacy = {"room_number": 7, "room_status": "OCCUPIED"}
    assert by.prepare(Event("1", "staff-hotel-1", "room_updated", legacy)).move is None


def test_thing_that_moves_is_told_apart_by_so_many_characters() -> None:
    """A producer cannot fill Redis with names."""
    body = room()
    body["payload"]["room_number"] = "9" * 500
    move = publisher(ContractMode.WARN).prepare(Event("1", ROOMS, None, body)).move
    assert move is not None
    assert move.thing == "9" * 128


@pytest.mark.parametrize(
    "mode, before, counted",
    [
        (ContractMode.WARN, "OCCUPIED", 1),
        (ContractMode.ENFORCE, "OCCUPIED", 1),
        (ContractMode.OFF, "OCCUPIED", 0),
        (ContractMode.WARN, "CHECKOUT_DIRTY", 0),
        (ContractMode.WARN, "CLEANING_IN_PROGRESS", 0),
        (ContractMode.WARN, "NEVER_HEARD_OF", 0),
        (ContractMode.WARN, "", 0),
    ],
)
async def test_unusual_move_is_delivered_and_counted(
    mode: ContractMode, before: str, counted: int
) -> None:
    """From where the broker last saw the room; to stay, or to come from nowhere, is no move."""
    desk = Desk()
    by = publisher(mode, desk=desk)
    future = by.publish(by.prepare(Event("1", ROOMS, None, room())))
    future.set_result(Receipt("e-1", 2, "ab", duplicate=False, state_before=before))
    await asyncio.sleep(0)
    fault = ("grand", "room_updated", "/payload/room_status: unusual move")
    assert by.violations == ({fault: 1} if counted else {})


# --- client events -------------------------------------------------------------------------------


@pytest.mark.parametrize("user_id", [None, "7"])
def test_client_event_is_announced_and_told_to_the_backend(user_id: str | None) -> None:
    """To everybody but its sender, on every node; the webhook says who sent it."""
    desk, told = Desk(), []

    def notify(
        app_id: str, kind: WebhookKind, channel: str, *, at_us: int = 0, **fields: str | int | None
    ) -> None:
        told.append((app_id, kind, channel, fields))

    by = Publisher(CONTRACT, desk, mode=ContractMode.WARN, serves_unlisted=False, notify=notify)
    by.relay(APP, "1.2", Relay("presence-x", "client-y", "z", user_id))
    named = {"user_id": user_id} if user_id is not None else {}
    ((app_id, channel, announcement),) = desk.announced
    assert (app_id, channel) == (APP.id, "presence-x")
    assert (announcement.kind, announcement.exclude) == (Kind.CLIENT_EVENT, "1.2")
    assert json.loads(announcement.frame) == {
        "event": "client-y",
        "channel": "presence-x",
        "data": "z",
        **named,
    }
    fields = {"event": "client-y", "data": "z", "socket_id": "1.2", "user_id": user_id}
    assert told == [(APP.id, WebhookKind.CLIENT_EVENT, "presence-x", fields)]


def test_publisher_without_webhooks_tells_nobody() -> None:
    """The event goes out all the same."""
    desk = Desk()
    publisher(desk=desk).relay(APP, "1.2", Relay("private-x", "client-y", "z", None))
    assert [type(each) for _, _, each in desk.announced] == [Announcement]

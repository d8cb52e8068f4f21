"""Card data passes in no mode."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from channels_spec.reading import load_contract
from server.broker.interface import Receipt
from server.broker.message import Announcement, Publication
from server.encoding import Event
from server.errors import PublishRefused
from server.publisher import ContractMode, Publisher
from tests.harness import ROOMS, room_updated

CARD = "4111 1111 1111 1111"


class NoBroker:
    """Stands where nothing is published: only `prepare` is asked."""

    ready = True

    def publish(self, publication: Publication) -> asyncio.Future[Receipt]:
        raise NotImplementedError

    def announce(self, app_id: str, channel: str, announcement: Announcement) -> None:
        raise NotImplementedError

    def watch(self, app_id: str, channel: str) -> bool:
        raise NotImplementedError

    def unwatch(self, app_id: str, channel: str) -> None:
        raise NotImplementedError


def prepared(mode: ContractMode, **payload: Any) -> tuple[Publication, Publisher]:
    """Return what becomes of a room event with more in its payload."""
    publisher = Publisher(load_contract(), NoBroker(), mode=mode, serves_unlisted=False)
    return publisher.prepare(Event("1", ROOMS, None, room_updated(**payload))), publisher


@pytest.mark.parametrize(
    "payload, pointer",
    [
        ({"maintenance_notes": f"paid with {CARD}, thanks"}, "/payload/maintenance_notes"),
        ({"guest": {"notes": ["x", CARD.replace(" ", "-")]}}, "/payload/guest/notes/1"),
        ({"number": 4111111111111111}, "/payload/number"),
        ({"CVV": "123"}, "/payload/CVV"),
        ({"card": {"pan": "anything"}}, "/payload/card/pan"),
    ],
)
def test_card_data_is_refused_in_enforce(payload: dict[str, Any], pointer: str) -> None:
    """The refusal names the field and not the number, beside every other fault."""
    with pytest.raises(PublishRefused) as caught:
        prepared(ContractMode.ENFORCE, is_occupied="no", **payload)
    assert [fault.pointer for fault in caught.value.faults] == ["/payload/is_occupied", pointer]
    assert "1111" not in caught.value.reason
    assert caught.value.status == 422


@pytest.mark.parametrize("mode", [ContractMode.WARN, ContractMode.OFF])
@pytest.mark.parametrize(
    "payload, left",
    [
        ({"maintenance_notes": f"paid with {CARD}, thanks"}, "************1111"),
        ({"number": 4111111111111111}, '"************1111"'),
        ({"cvv": 123}, '"cvv":"[masked]"'),
    ],
)
def test_card_data_is_masked_where_it_is_not_refused(
    mode: ContractMode, payload: dict[str, Any], left: str
) -> None:
    """In `warn` and `off` the event goes out, and the number does not."""
    publication, _ = prepared(mode, **payload)
    data = orjson.loads(publication.frames[0].head + b'1"}')["data"]
    assert left in data
    assert not any(digits in data for digits in ("4111", "123"))


def test_masked_card_is_counted_as_a_violation() -> None:
    """The operator sees which producer sends card data."""
    _, publisher = prepared(ContractMode.WARN, note=CARD)
    assert publisher.violations["hotel-killarney", "room_updated", "/payload/note"] == 1


@pytest.mark.parametrize(
    "payload",
    [
        {"cleaned_at_ms": 1766226600000},
        {"cvv": None},
        {"dish": "pan"},
        {"phone": "+353 64 663 1555"},
        {"reference": "4111111111111112"},
        {"token": "a4111111111111111"},
    ],
)
def test_what_is_no_card_passes(payload: dict[str, Any]) -> None:
    """Timestamps, telephone numbers and failed check digits are nobody's card."""
    publication, publisher = prepared(ContractMode.ENFORCE, **payload)
    assert publisher.violations.keys() <= {("hotel-killarney", "room_updated", "/meta/event_id")}
    assert publication.event_id


def test_event_id_is_never_taken_for_a_card_when_it_is_a_uuid() -> None:
    """A random id may look like one; masking it would undo the deduplication."""
    publisher = Publisher(
        load_contract(), NoBroker(), mode=ContractMode.ENFORCE, serves_unlisted=False
    )
    body = room_updated()
    event_id = "41111111-1111-1111-8111-111111111111"
    body["meta"]["event_id"] = event_id
    assert publisher.prepare(Event("1", ROOMS, None, body)).event_id == event_id


def test_card_number_does_not_pass_as_an_event_id() -> None:
    """Where it is masked it is masked everywhere: it goes into Redis and into headers."""
    body = room_updated()
    body["meta"]["event_id"] = "4111-1111-1111-1111"
    publisher = Publisher(
        load_contract(), NoBroker(), mode=ContractMode.WARN, serves_unlisted=False
    )
    publication = publisher.prepare(Event("1", ROOMS, None, body))
    assert publication.event_id == "************1111"
    assert b"4111" not in b"".join(frame.head + frame.tail for frame in publication.frames)

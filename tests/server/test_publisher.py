from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from channels_spec.contract import Moves
from channels_spec.faults import Fault
from server.broker.interface import Receipt
from server.broker.message import (
    Move,
    Publication,
    SplicedFrame,
    decode,
)
from server.encoding import Event
from server.errors import BrokerUnavailable, PublishRefused
from server.publisher import ContractMode, Publisher
from tests.broker.script import written
from tests.harness import room_updated
from tests.people import CONTRACT
from tests.server.desk import Desk

ROOMS = "grand.rooms"
LIMIT = 10_240


def _moves() -> Moves:
    match = CONTRACT.match(ROOMS)
    assert match is not None
    (moves,) = [spec.moves for spec in match.family.events.values() if spec.moves is not None]
    return moves


MOVES = _moves()


def publisher(
    mode: ContractMode = ContractMode.ENFORCE,
    *,
    serves_unlisted: bool = False,
    desk: Desk | None = None,
) -> Publisher:
    """Return a publisher whose clock stands still."""
    return Publisher(
        CONTRACT,
        desk or Desk(),
        mode=mode,
        serves_unlisted=serves_unlisted,
        clock=lambda: datetime(2025, 12, 20, 10, 30, tzinfo=UTC),
    )


def room(**meta: Any) -> dict[str, Any]:
    """Return a complete event of a room with an id of its own."""
    body = room_updated("12", hotel="grand")
    body["meta"] = {"event_id": "e-1", **body["meta"], **meta}
    return body


def refusal(event: Event, by: Publisher | None = None) -> tuple[int, str]:
    """Return status and reason with which an event is refused."""
    with pytest.raises(PublishRefused) as caught:
        (by or publisher()).prepare(event)
    assert str(caught.value) == caught.value.reason
    return caught.value.status, caught.value.reason


def frames(publication: Publication, **number: Any) -> dict[str, Any]:
    """Return the data of each view's frame as it arrives, by view."""
    message = decode(written(publication, **number))
    return {view: json.loads(json.loads(text)["data"]) for view, text in message.frames.items()}


# --- contract channels ---------------------------------------------------------------------------


def test_contract_event_becomes_a_publication() -> None:
    """Everything that a node needs of it stands in the header; views that are equal share."""
    body = room()
    publication = publisher().prepare(Event("7", ROOMS, "room_updated", body, exclude="1.2"))
    assert publication == Publication(
        app_id="7",
        channel=ROOMS,
        event_id="e-1",
        frames=publication.frames,
        views=(("staff", 0), ("finance", 0)),
        hotel_slug="grand",
        exclude="1.2",
        filter_values=(("room_number", "12"),),
        numbered=True,
        move=Move(MOVES, "room_updated", "grand", "12", "CLEANING_IN_PROGRESS"),
        event="room_updated",
    )
    assert len(publication.frames) == 1
    due = {**body, "meta": {**body["meta"], "sequence": 9, "epoch": "ab"}}
    assert frames(publication, sequence=9, epoch="ab") == {"staff": due, "finance": due}


def test_contract_event_has_a_frame_per_distinct_view() -> None:
    """Payment fields make two encodings: one with them, one without."""
    body = room()
    body["payload"]["payment_status"] = "PAID"
    publication = publisher().prepare(Event("1", ROOMS, None, body))
    assert publication.views == (("staff", 0), ("finance", 1))
    seen = frames(publication)
    assert seen["finance"]["payload"] == body["payload"]
    assert "payment_status" not in seen["staff"]["payload"]


@pytest.mark.parametrize("data", [json.dumps(room()), room()])
def test_contract_event_may_be_a_string_or_an_object(data: object) -> None:
    """Pusher's libraries send data as a string of JSON; others send it as it is."""
    publication = publisher().prepare(Event("1", ROOMS, "room_updated", data))
    assert publication.event_id == "e-1"


def test_contract_event_without_an_id_gets_one() -> None:
    """A new one each time, and the present time where that is missing too."""
    body = room_updated(hotel="grand")
    del body["meta"]["ts"]
    first, second = (publisher().prepare(Event("1", ROOMS, None, body)) for _ in range(2))
    assert first.event_id != second.event_id
    assert uuid.UUID(first.event_id).version == 4
    meta = frames(first)["staff"]["meta"]
    assert (meta["event_id"], meta["ts"]) == (first.event_id, "2025-12-20T10:30:00.000Z")


def test_guest_event_goes_out_under_the_views_of_its_scope() -> None:
    """On a guest channel only the listed fields are encoded at all."""
    body = {
        "category": "guest_booking",
        "type": "checked_in",
        "payload": {"booking_id": "7", "room_number": 12, "guest_name": "Ann"},
        "meta": {"hotel_slug": "grand", "ts": "2025-12-20T10:00:00Z", "scope": {"booking_id": "7"}},
    }
    publication = publisher(ContractMode.WARN).prepare(Event("1", "guest-booking-7", None, body))
    assert publication.views == (("guest", 0), ("guest-status", 0))
    assert publication.hotel_slug == "grand"
    assert json.loads(publication.frames[0].head.partition(b',"channel"')[0] + b"}") == {
        "event": "booking_checked_in"
    }
    assert frames(publication)["guest"]["payload"] == {"booking_id": "7", "room_number": 12}


def test_legacy_body_goes_out_without_a_number() -> None:
    """In `warn` it is delivered as it came: no envelope, no sequence, no filter."""
    body = {"room_id": 7, "room_status": "OCCUPIED"}
    by = publisher(ContractMode.WARN)
    publication = by.prepare(Event("1", "staff-hotel-1", "room_status_updated", body))
    assert publication.numbered is False
    assert (publication.hotel_slug, publication.filter_values) == ("", ())
    assert frames(publication) == {"staff": body, "finance": body}
    assert by.violations == {("", "room_status_updated", ""): 1}


@pytest.mark.parametrize("mode", ContractMode)
def test_violation_is_refused_counted_or_nothing_by_mode(mode: ContractMode) -> None:
    """`enforce` refuses with every fault, `warn` delivers and counts, `off` only delivers."""
    body = {**room(), "category": "beds", "type": "room_painted"}
    by = publisher(mode)
    faults = (
        Fault("/type", "'room_painted' is not an event of {hotel_slug}.rooms"),
        Fault("/category", "expected rooms on {hotel_slug}.rooms"),
    )
    if mode is ContractMode.ENFORCE:
        with pytest.raises(PublishRefused) as caught:
            by.prepare(Event("1", ROOMS, None, body))
        assert (caught.value.status, caught.value.faults) == (422, faults)
        assert caught.value.reason == "; ".join(map(str, faults))
    else:
        assert frames(by.prepare(Event("1", ROOMS, None, body)))["staff"]["type"] == "room_painted"
    counted = {("grand", "room_painted", "/type"): 1, ("grand", "room_painted", "/category"): 1}
    assert by.violations == (counted if mode is ContractMode.WARN else {})


def test_warning_is_counted_and_never_refused() -> None:
    """An accepted spelling passes in `enforce`, and its producer can be found."""
    by = publisher()
    for _ in range(2):
        by.prepare(Event("1", ROOMS, None, {**room(), "category": "room"}))
    assert by.violations == {("grand", "room_updated", "/category"): 2}


def test_counted_violations_are_bounded() -> None:
    """A producer chooses the event's name: it cannot fill the memory with names."""
    by = publisher(ContractMode.WARN)
    names = [f"event_{number}" for number in range(1_100)]
    for name in names:
        by.prepare(Event("1", ROOMS, None, {**room(), "type": name}))
    assert len(by.violations) == 1_001
    assert by.violations["grand", names[0], "/type"] == 1
    assert by.violations["", "", "other"] == 100
    # What is counted apart goes on being counted apart.
    by.prepare(Event("1", ROOMS, None, {**room(), "type": names[0]}))
    assert by.violations["grand", names[0], "/type"] == 2


@pytest.mark.parametrize("mode", ContractMode)
@pytest.mark.parametrize(
    "event, status, reason",
    [
        (Event("1", ROOMS, None, []), 422, "/: an event's body must be a JSON object"),
        (Event("1", ROOMS, None, "x"), 422, "data of a contract channel must be a JSON object"),
        (Event("1", ROOMS, None, '"x"'), 422, "/: an event's body must be a JSON object"),
        (Event("1", ROOMS, None, None), 422, "/: an event's body must be a JSON object"),
        (Event("1", ROOMS, None, room(hotel_slug="sea-view")), 422, "/meta/hotel_slug: 'sea-view'"),
        (Event("1", ROOMS, None, {**room(), "category": []}), 422, "/category: must be a string"),
        (Event("1", "presence-grand.desk", "x", {}), 422, "/: presence-grand.desk is a roster"),
        (
            Event("1", "grand.booking", None, {**room(), "type": "pusher:error"}),
            400,
            "event names that start with pusher: or pusher_internal: are reserved",
        ),
        (
            Event("1", ROOMS, None, {**room(), "note": "x" * LIMIT}),
            413,
            f"the event exceeds the allowed maximum ({LIMIT} bytes)",
        ),
        (
            Event("1", ROOMS, None, {**room(), "note": "é" * (LIMIT // 2)}),
            413,
            f"the event exceeds the allowed maximum ({LIMIT} bytes)",
        ),
        (
            Event("1", ROOMS, None, {**room(), "note": json.loads("[" * 300 + "]" * 300)}),
            422,
            "the body cannot be encoded: Recursion limit reached",
        ),
        (Event("1", ROOMS, None, {**room(), "note": 2**64}), 422, "the body cannot be encoded: "),
        (Event("1", ROOMS, None, {**room(), "note": "\ud800"}), 422, "the body cannot be encoded"),
    ],
)
def test_contract_event_is_refused_in_every_mode(
    mode: ContractMode, event: Event, status: int, reason: str
) -> None:
    """What cannot be routed, sent or encoded is refused, and says why; nothing raises otherwise."""
    if reason.startswith("event names") and mode is ContractMode.ENFORCE:
        event = Event("1", event.channel, "pusher:error", event.data)
    told = refusal(event, publisher(mode))
    assert told[0] == status
    assert told[1].startswith(reason)


# --- any channel ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event, status, reason",
    [
        *(
            (
                Event("1", channel, "x", {}),
                400,
                f"{shown} is not a channel name: at most 200 of A-Z a-z 0-9 _ - = @ , . ;",
            )
            for channel, shown in (
                ("", "''"),
                ("grand.rooms\n", r"'grand.rooms\n'"),
                ("a b", "'a b'"),
                ("#x", "'#x'"),
                ("#server-to-user-", "'#server-to-user-'"),
                ("x" * 201, f"'{'x' * 60}…'"),
            )
        ),
        (Event("1", "x", "", {}), 400, "an event's name has 1 to 200 characters"),
        (Event("1", "x", "y" * 201, {}), 400, "an event's name has 1 to 200 characters"),
        (
            Event("1", "x", "pusher:ping", {}),
            400,
            "event names that start with pusher: or pusher_internal: are",
        ),
        (
            Event("1", "x", "pusher_internal:x", {}),
            400,
            "event names that start with pusher: or pusher_internal: are",
        ),
        (Event("1", "x", "y", {}, exclude="1"), 400, "socket_id must look like 123.456"),
        (Event("1", ROOMS, "y", {}, exclude="1.2\n"), 400, "socket_id must look like 123.456"),
        (Event("1", "x", None, room()), 400, "outside the contract an event needs a name"),
        (
            Event("1", "x", "y", "é" * (LIMIT // 2 + 1)),
            413,
            f"the event exceeds the allowed maximum ({LIMIT} bytes)",
        ),
        (
            Event("1", "x", "y", {"a": "x" * LIMIT}),
            413,
            f"the event exceeds the allowed maximum ({LIMIT} bytes)",
        ),
        (Event("1", "x", "y", {1: 2}), 422, "the body cannot be encoded: "),
    ],
)
def test_event_is_refused(event: Event, status: int, reason: str) -> None:
    """Names, sizes and socket ids are checked before anything is published."""
    told = refusal(event, publisher(serves_unlisted=True))
    assert told[0] == status
    assert told[1].startswith(reason)


@pytest.mark.parametrize("channel", ["x", "private-x", "presence-x", "sea.view"])
def test_event_of_an_unlisted_channel_is_refused_by_default(channel: str) -> None:
    """Nobody could hear it, so the backend is told."""
    assert refusal(Event("1", channel, "y", {})) == (
        403,
        f"the channel {channel} is not in the contract",
    )


@pytest.mark.parametrize("channel", ["x", "private-x", "private-encrypted-x"])
@pytest.mark.parametrize(
    "data, arrives",
    [
        ('{"a": 1.0 }', '{"a": 1.0 }'),
        ("plain text", "plain text"),
        ("", ""),
        ("x" * LIMIT, "x" * LIMIT),
        ({"a": 1}, '{"a":1}'),
        (None, "null"),
        ([1, "é"], '[1,"é"]'),
    ],
)
def test_plain_event_is_relayed_as_the_string_that_it_was(
    channel: str, data: object, arrives: str
) -> None:
    """Outside the contract the publisher's string is untouched; anything else becomes one."""
    publication = publisher(serves_unlisted=True).prepare(Event("1", channel, "y", data, "1.2"))
    assert publication == Publication(
        app_id="1",
        channel=channel,
        event_id=publication.event_id,
        frames=(
            SplicedFrame(
                json.dumps(
                    {"event": "y", "channel": channel, "data": arrives},
                    ensure_ascii=False,
                    separators=(",", ":"),
                ).encode()
            ),
        ),
        views=(("plain", 0),),
        exclude="1.2",
        event="y",
    )
    assert uuid.UUID(publication.event_id).version == 4


def test_event_to_a_user_needs_no_contract() -> None:
    """`#server-to-user-ID` is Pusher's own, whatever becomes of other unlisted channels."""
    publication = publisher().prepare(Event("1", "#server-to-user-12", "y", "hello"))
    assert publication.views == (("plain", 0),)


@pytest.mark.parametrize("channel", ["cache-x", "private-cache-x", "presence-cache-x", "x"])
def test_event_of_a_cache_channel_is_kept_as_its_last(channel: str) -> None:
    """By the name's beginning alone; every other channel keeps none."""
    publication = publisher(serves_unlisted=True).prepare(Event("1", channel, "y", "z"))
    assert publication.cached is (channel != "x")
    assert publication.replayed


# --- publishing ----------------------------------------------------------------------------------


async def test_publish_counts_what_became_of_it() -> None:
    """Published, duplicate or failed; an answer that nobody waits for any more is none of them."""
    desk = Desk()
    by = publisher(desk=desk)
    publication = by.prepare(Event("1", ROOMS, None, room()))
    futures = [by.publish(publication) for _ in range(4)]
    assert desk.published == [publication] * 4
    desk.futures[0].set_result(Receipt("e-1", 1, "ab", duplicate=False))
    desk.futures[1].set_result(Receipt("e-1", 1, "ab", duplicate=True))
    desk.futures[2].set_exception(BrokerUnavailable("Redis does not answer"))
    desk.futures[3].cancel()
    answers = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(answer) for answer in answers] == [
        Receipt,
        Receipt,
        BrokerUnavailable,
        asyncio.CancelledError,
    ]
    assert by.published == {"published": 1, "duplicate": 1, "failed": 1}


def test_publisher_has_a_clock_of_its_own() -> None:
    """Without one given, the time is the system's, in UTC and milliseconds."""
    by = Publisher(CONTRACT, Desk(), mode=ContractMode.WARN, serves_unlisted=False)
    body: Mapping[str, Any] = {**room(), "meta": {"hotel_slug": "grand"}}
    stamp = frames(by.prepare(Event("1", ROOMS, None, body)))["staff"]["meta"]["ts"]
    assert stamp.endswith("Z")
    assert len(stamp) == len("2025-12-20T10:30:00.000Z")
    assert datetime.fromisoformat(stamp) <= datetime.now(UTC)

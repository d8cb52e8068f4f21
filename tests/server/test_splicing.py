"""The number is spliced into encoded text: what arrives is JSON, and says what was published."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from server.broker.message import decode
from server.encoding import Event
from server.publisher import ContractMode, Publisher
from tests.broker.script import written
from tests.oracle import pruned
from tests.people import CONTRACT
from tests.server.desk import Desk

NOW = datetime(2025, 12, 20, 10, 30, 0, 123456, tzinfo=UTC)
# Keys that escape, that look like the end of an envelope, and payment fields; but none of a card.
KEYS = st.one_of(
    st.text(max_size=4).filter(
        lambda key: key.lower() not in {"pan", "cvv", "cvc", "cvv2", "cvc2"}
    ),
    st.sampled_from(
        ['"', "\\", '"}}', "\u2028", "\x00", "payment", "Deposit_x", "meta", "sequence"]
    ),
)
# Numbers of so few digits that none is taken for a card's.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.sampled_from([2**63 - 1, -(2**63), 0.1, 1e300, -0.0, 5e-324]),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.text(max_size=8),
    st.sampled_from([',"sequence":1', '\\"}}"}', "}}", "\ud7ff\U0001f6cf"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=4)
META = st.fixed_dictionaries(
    {},
    optional={
        "event_id": st.text("abc-019", min_size=1, max_size=8),
        "hotel_slug": st.just("grand"),
        "ts": st.text(max_size=5) | st.integers(0, 9),
        "scope": OBJECTS | st.just("staff"),
        "sequence": SCALARS,
        "epoch": SCALARS,
        "more": JSON,
    },
)


@st.composite
def envelopes(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an envelope in any spelling that is accepted, its parts in any order."""
    name = draw(st.sampled_from(["type", "event_type"]))
    parts = {
        "category": draw(st.sampled_from(["booking", "room_booking", None])),
        name: draw(st.sampled_from(["table_booked", "Not Snake Case", 'ö"\\'])),
        "payload": draw(OBJECTS),
        "meta": draw(META),
        **draw(st.dictionaries(st.sampled_from(["x", '"}}', "payments"]), JSON)),
    }
    return dict(draw(st.permutations(list(parts.items()))))


def expected(body: dict[str, Any], given_name: str | None) -> dict[str, Any]:
    """Return the envelope that should arrive, less the event id and number."""
    meta = {key: value for key, value in body["meta"].items() if key not in ("sequence", "epoch")}
    if isinstance(meta.get("scope"), str):
        meta["scope"] = {"audience": meta["scope"]}
    if not isinstance(meta.get("ts"), str):
        meta["ts"] = "2025-12-20T10:30:00.123Z"
    meta["hotel_slug"] = "grand"
    meta.pop("event_id", None)
    name = given_name or body.get("type") or body["event_type"]
    rest = {key: value for key, value in body.items() if key != "event_type"}
    return {**rest, "type": name, "meta": meta}


@given(
    envelopes(),
    st.none() | st.sampled_from(["table_booked", 'quo"te']),
    st.integers(1, 2**53),
    st.text("0123456789abcdef", min_size=8, max_size=8),
)
@example(
    {"meta": {}, "payload": {}, "category": "booking", "event_type": "table_booked"}, None, 1, "00"
)
def test_every_view_arrives_as_the_envelope_and_its_number(
    body: dict[str, Any], name: str | None, sequence: int, epoch: str
) -> None:
    """Spliced as the broker's script does it, each frame is JSON whose data is the envelope."""
    publisher = Publisher(
        CONTRACT, Desk(), mode=ContractMode.WARN, serves_unlisted=False, clock=lambda: NOW
    )
    publication = publisher.prepare(Event("1", "grand.booking", name, json.dumps(body)))
    message = decode(written(publication, sequence=sequence, epoch=epoch))
    whole = expected(body, name)
    for view, due in (("finance", whole), ("staff", pruned(whole))):
        frame = json.loads(message.frames[view])
        assert set(frame) == {"event", "channel", "data"}
        assert (frame["event"], frame["channel"]) == (whole["type"], "grand.booking")
        data = json.loads(frame["data"])
        meta = data["meta"]
        assert (meta.pop("sequence"), meta.pop("epoch")) == (sequence, epoch)
        assert meta.pop("event_id") == body["meta"].get("event_id", publication.event_id)
        assert data == due
    assert set(message.frames) == {"staff", "finance"}


@given(OBJECTS, st.text(max_size=6))
def test_body_without_an_envelope_arrives_as_it_is(body: dict[str, Any], note: str) -> None:
    """A legacy body has no number: it is the same JSON on the other side."""
    legacy = {**body, "action": note, "meta": None}
    publisher = Publisher(CONTRACT, Desk(), mode=ContractMode.OFF, serves_unlisted=False)
    publication = publisher.prepare(Event("1", "grand.rooms", "room_updated", legacy))
    message = decode(written(publication))
    for view, due in (("finance", legacy), ("staff", pruned(legacy))):
        frame = json.loads(message.frames[view])
        assert json.loads(frame["data"]) == due

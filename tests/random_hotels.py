"""Random contracts, people and events: what the tests over all of them draw."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import yaml
from hypothesis import strategies as st

from channels_spec.reading import HOTEL_CONTRACT
from tests.visibility import CARD_NUMBER, Json, Said, marker, place

HOTELS: Final = ("grand", "sea-view")
_ROLES: Final = ("front_desk", "housekeeping", "finance", "manager", "admin")
_ADDRESSES: Final = {
    "hotel-staff": ("{hotel_slug}.rooms", "{hotel_slug}.spa-desk", "private-{hotel_slug}.board"),
    "hotel-staff-by-id": (
        "staff-hotel-{hotel_id}",
        "feed-{hotel_id}",
        "{hotel_slug}.floor-{hotel_id}",
    ),
    "booking-guest": (
        *("private-guest-booking.{booking_id}", "guest-booking-{booking_id}"),
        "{hotel_slug}.stay-{booking_id}",
    ),
    "staff-member": ("staff-chat-{staff_id}", "private-desk-{staff_id}"),
    "conversation-members": (
        *("staff-chat-conversation-{conversation_id}", "{hotel_slug}.talk-{conversation_id}"),
    ),
}
_VALUES: Final = {
    "hotel_slug": HOTELS,
    "hotel_id": ("1", "1", "1", "2"),
    "booking_id": ("7", "7", "8"),
    "staff_id": ("12", "13", "conversation-12"),
    "conversation_id": ("12", "c2"),
}
_WITHHELD: Final = (
    *("payment", "payments", "payment_*", "deposit*", "card_last4", "Secret*"),
    *("note", "key_*", "vip-level", "room_name", "floor", "guest*"),
)
_FIELDS: Final = ("booking_id", "status", "room_number", "note", "payment", "guest_name", "secret")
_KEYS: Final = (
    *("payment", "Payments", "PAYMENT_method", "payment_", "deposit", "DepositPaid", "card_last4"),
    *("prepayment", "secret", "SECRET_code", "note", "Note", "notes", "key_x", "\u212aey_x"),
    *("vip-level", "room_number", "room_name", "floor", "status", "guest_name", "booking_id"),
    *("rooms", "meta"),
)
# From the middle: the ends of a range are drawn more often than the rest of it.
RARELY: Final = st.integers(0, 4).map(lambda number: number == 2)
_EVENTS: Final = ("room_updated", "bill_paid", "guest_moved", "chat_message")


@cache
def _hotel_contract() -> Json:
    """Return the hotel contract's own words: parameters and the envelope are taken from it."""
    document: Json = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    return document


# --- contracts -----------------------------------------------------------------------------------


def _some(values: tuple[str, ...], least: int = 0, most: int | None = None) -> Any:
    return st.lists(st.sampled_from(values), min_size=least, max_size=most, unique=True)


@st.composite
def _messages(draw: st.DrawFn) -> Json:
    messages = {}
    for name in draw(_some(_EVENTS, 2, 3)):
        message: Json = {
            "name": name,
            "x-bellhop-fields": draw(_some(_FIELDS)),
            "x-bellhop-scope": ["room_number"],
            "x-bellhop-synonyms": [f"{name}_of_old"] if draw(st.booleans()) else [],
            "payload": {
                "allOf": [
                    {"$ref": "#/components/schemas/Envelope"},
                    {"properties": {"payload": {"required": draw(_some(_FIELDS[:2]))}}},
                ]
            },
        }
        if draw(st.booleans()):
            message["x-bellhop-guest-scope"] = draw(st.sampled_from(["CHAT", "STATUS_READ"]))
        if draw(RARELY):
            message["x-bellhop-conflate"] = "room_number"
        messages[name] = message
    return messages


@st.composite
def documents(draw: st.DrawFn) -> Json:
    """Draw a contract as the plain values of its document."""
    hotel = _hotel_contract()
    ladder = ["staff", "desk", "money"][: draw(st.integers(1, 3))]
    views: Json = {}
    for rung, name in enumerate(ladder):
        views[name] = {"withhold": draw(_some(_WITHHELD, most=6))}
        if rung:
            views[name]["roles"] = draw(_some(_ROLES, 1, 3))
        if draw(RARELY):
            views[name]["listed-fields-only"] = True
    views["guest"] = {
        "withhold": draw(_some(_WITHHELD, most=4)),
        "listed-fields-only": True,
        "scope": draw(_some(("booking_id", "room_number", "floor"))),
    }
    messages = draw(_messages())
    channels: Json = {}
    for audience, addresses in _ADDRESSES.items():
        address = draw(st.sampled_from(addresses))
        channels[audience] = family = {
            "address": address,
            "parameters": {
                name: {"$ref": f"#/components/parameters/{name}"}
                for name in _VALUES
                if f"{{{name}}}" in address
            },
            "x-bellhop-audience": audience,
            "x-bellhop-private-twin": draw(st.booleans()),
            "x-bellhop-views": ["guest", *ladder[2:]] if audience == "booking-guest" else ladder,
            "x-bellhop-categories": ["things"],
            "messages": messages,
        }
        if draw(RARELY):
            family["x-bellhop-roles"] = draw(_some(_ROLES, 1, 3))
        if draw(RARELY):
            family["x-bellhop-unlisted"] = next(iter(messages))
    return {
        "asyncapi": "3.0.0",
        "info": hotel["info"],
        "x-bellhop-views": views,
        "channels": channels,
        "components": {
            "parameters": hotel["components"]["parameters"],
            "schemas": {
                name: hotel["components"]["schemas"][name] for name in ("Envelope", "Meta")
            },
        },
    }


@st.composite
def channels_of(draw: st.DrawFn, document: Json) -> list[str]:
    """Draw one or two channels of each family of a contract."""
    found = []
    for family in document["channels"].values():
        for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
            name = family["address"]
            for parameter in family["parameters"]:
                name = name.replace(f"{{{parameter}}}", draw(st.sampled_from(_VALUES[parameter])))
            if family["x-bellhop-private-twin"] and draw(st.booleans()):
                name = f"private-{name}"
            found.append(name)
    return sorted(set(found))


# --- people --------------------------------------------------------------------------------------


@st.composite
def claims(draw: st.DrawFn, sub: str) -> Json:
    """Draw the claims of a good token, less its times, in any of their spellings."""
    kind = draw(st.sampled_from(["staff", "staff", "staff", "guest", "guest", "service"]))
    drawn: Json = {"sub": sub, "kind": kind}
    if kind == "staff" and draw(st.booleans()):
        del drawn["kind"]
    if draw(st.booleans()):
        drawn["roles"] = [*draw(_some(_ROLES, most=2)), "gardener"]
    named = draw(st.sampled_from([HOTELS, HOTELS, HOTELS[:1], HOTELS[1:]]))
    hotels: Any = [draw(_entries(slug)) for slug in named]
    if kind == "guest":
        hotels = hotels[-1:]
    elif kind == "service" and draw(st.booleans()):
        hotels = draw(st.sampled_from(["*", ["*"]]))
    if kind == "guest" or not draw(RARELY):
        drawn["hotels"] = hotels
    scope = draw(_some(("STATUS_READ", "CHAT", "ROOM_SERVICE"), 1))
    if kind == "guest" or draw(RARELY):
        drawn["booking_id"] = draw(st.sampled_from(["7", 7, 7, "8"]))
        drawn["scope"] = draw(st.sampled_from([scope, " ".join(scope)]))
    if draw(st.booleans()):
        drawn["staff_id"] = draw(st.sampled_from(["12", 13, "conversation-12"]))
    if draw(st.booleans()):
        drawn["conversations"] = draw(_some(_VALUES["conversation_id"], 1))
    return drawn


@st.composite
def _entries(draw: st.DrawFn, slug: str) -> str | Json:
    entry: Json = {"slug": slug}
    if not draw(RARELY):
        entry["id"] = draw(st.sampled_from(["1", 1, 1, 1, "2"]))
    if draw(st.booleans()):
        entry["roles"] = draw(_some(_ROLES, most=2))
    return entry if len(entry) > 1 else slug


# --- events --------------------------------------------------------------------------------------

_LEAF: Final = st.just(0)
_SHAPES: Final = st.recursive(
    _LEAF,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | st.dictionaries(st.sampled_from(_KEYS), inner, min_size=1, max_size=3)
    ),
    max_leaves=5,
)
_OBJECTS: Final = st.dictionaries(st.sampled_from(_KEYS), _SHAPES, max_size=4)


def _filled(shape: Any, fresh: Iterator[int]) -> Any:
    """Return a shape with a marker of its own in every leaf that is zero."""
    if isinstance(shape, dict):
        return {key: _filled(value, fresh) for key, value in shape.items()}
    if isinstance(shape, list):
        return [_filled(value, fresh) for value in shape]
    return marker(next(fresh)) if shape == 0 else shape


_FLAWS: Final = (
    *("no hotel", "other hotel", "category", "unlisted", "other type", "no type", "lacks a field"),
    *("scope is text", "scope is a list", "card field", "card number", "no event id", "ts is none"),
    "no envelope",
)


@st.composite
def events(
    draw: st.DrawFn, document: Json, channels: list[str], fresh: Iterator[int]
) -> list[Said]:
    """Draw an event, good or with a flaw or two, for each channel in turn: alike, as far as can be.

    No marker comes twice: what is drawn is a shape, which each channel's event fills anew.
    """
    payload: Json = draw(_OBJECTS)
    for key in _FIELDS[:2]:
        payload.setdefault(key, 0)
    payload["room_number"] = draw(st.sampled_from(["101", 101, 0]))
    scope: Json = draw(_OBJECTS)
    for key, values in (("room_number", ["101", 101, "102"]), ("booking_id", ["7", 8])):
        if draw(st.booleans()):
            scope[key] = draw(st.sampled_from(values))
    shape: Json = {
        "category": "things",
        "type": "",
        "payload": payload,
        "meta": {
            "event_id": 0,
            "hotel_slug": draw(st.sampled_from(HOTELS)),
            "ts": 0,
            "scope": scope,
            **draw(st.dictionaries(st.sampled_from(_MORE_META), _SHAPES)),
        },
        **draw(st.dictionaries(st.sampled_from(_KEYS[:-1]), _SHAPES, max_size=2)),
    }
    if draw(RARELY):
        shape["event_type"] = 0
    order = draw(st.permutations(list(shape)) | st.just(list(shape)))
    flaws = {*draw(_some(_FLAWS, most=2))} if draw(st.booleans()) else set()
    flaws |= {flaw for flaw in ("no hotel", "no envelope") if draw(RARELY)}
    last, named = draw(st.booleans()), draw(st.booleans())
    found = []
    for channel in channels:
        where = place(document, channel)
        assert where is not None
        name = sorted(where.family["messages"])[-1 if last else 0]
        body = _filled({**shape, "type": name}, fresh)
        body["meta"]["hotel_slug"] = where.hotel or body["meta"]["hotel_slug"]
        given: str | None = name if named else None
        for flaw in sorted(flaws, key=_FLAWS.index):
            given = _flawed(flaw, body, given, fresh)
        ordered = sorted(body.items(), key=lambda item: [*order, item[0]].index(item[0]))
        found.append(Said(channel, given, dict(ordered)))
    return found


_MORE_META: Final = ("sequence", "epoch", "payment", "secret_by", "note", "host")


def _flawed(flaw: str, body: Json, name: str | None, fresh: Iterator[int]) -> str | None:
    """Spoil a body in place; return the event's name as it is given beside it."""
    meta = body["meta"]
    new = marker(next(fresh))
    match flaw:
        case "no hotel":
            meta.pop("hotel_slug", None)
        case "other hotel":
            meta["hotel_slug"] = _other(meta.get("hotel_slug"))
        case "category":
            body["category"] = new
        case "unlisted":
            body["type"] = f"unheard_of_{new}" if int(new[2:-2]) % 2 else f"Never heard of {new}"
            name = name and body["type"]
        case "no envelope":
            name = name or body["type"]
            body.update(body.pop("payload", {}))
        case "other type":
            name = name or body["type"]
            body["type"] = new
        case "no type":
            name = name or body.pop("type")
            body.pop("type", None)
        case "lacks a field":
            del body["payload"]["status"]
        case "scope is text":
            meta["scope"] = new
        case "scope is a list":
            meta["scope"] = [new, {"payment": marker(next(fresh))}]
        case "card field":
            body["CVV"] = {"code": new}
            meta["pan"] = marker(next(fresh))
        case "card number":
            meta["paid"] = f"{new} {CARD_NUMBER[:4]} {CARD_NUMBER[4:]} paid"
            meta["with"] = CARD_NUMBER
        case "no event id":
            meta.pop("event_id", None)
        case "ts is none":
            meta["ts"] = {"of": new}
        case _:
            raise AssertionError(flaw)
    return name


def _other(hotel: object) -> str:
    """Return another hotel."""
    return HOTELS[hotel == HOTELS[0]]

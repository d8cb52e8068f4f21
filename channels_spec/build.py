"""Events for backends: built whole, and held to the contract before they are published.

The server takes what comes and mends what it can; here what it would mend or count is a fault too.
What this module builds, the server publishes in every mode, without a violation or a warning.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final, TypedDict

import orjson

from channels_spec.cards import may_hold_cards, without_cards
from channels_spec.contract import ChannelFamily, Contract, EventSpec
from channels_spec.envelope import NotAcceptable, listed
from channels_spec.faults import Fault, pointer
from channels_spec.pusher import MAX_EVENT_DATA, is_channel_name
from channels_spec.reading import load_contract

_MAX_DEPTH: Final = 64
"""Objects and lists in one another; every reader's parser has a limit of its own."""
_LEAST_INTEGER: Final = -(2**63)
_MOST_INTEGER: Final = 2**64 - 1
"""Beyond these a JSON parser gives a float, which is another number."""

_Steps = tuple[str | int, ...]
_Carrier = tuple[ChannelFamily, EventSpec]


class InvalidEvent(ValueError):
    """The event breaks the contract; ``faults`` say where and why, all of them."""

    def __init__(self, name: str, *faults: Fault) -> None:
        super().__init__(f"{name}: " + "; ".join(map(str, faults)))
        self.faults = faults


class Meta(TypedDict):
    """About an event."""

    event_id: str
    hotel_slug: str
    ts: str
    scope: dict[str, object]


class Envelope(TypedDict):
    """An event as it is published."""

    category: str
    type: str
    payload: dict[str, object]
    meta: Meta


def event(
    name: str,
    *,
    hotel: str,
    payload: Mapping[str, object],
    scope: Mapping[str, object] | None = None,
    family: str | None = None,
    channel: str | None = None,
    contract: Contract | None = None,
) -> Envelope:
    """Build the envelope of one event, with a new event id and the time of now.

    Args:
        name: of the event, as the contract lists it.
        hotel: the hotel's slug.
        payload: what JSON has a form for; tuples become lists.
        scope: what the event is about; every key that the contract asks for.
        family: the name of the channel family that it is for, where several carry the event and
            differ in its category.
        channel: the channel that it is for: decides the same, and is checked against the hotel.
        contract: another one than the hotel contract.

    Raises:
        InvalidEvent: with every fault.

    """
    contract = contract or _hotel_contract()
    faults: list[Fault] = []
    carriers = _carriers(contract, name, family, channel, faults)
    slug = _slug(contract, hotel, channel, faults)
    body = Envelope(
        category=_category(carriers, faults),
        type=next((spec.name or name for _, spec in carriers), ""),
        payload=_object(payload, ("payload",), faults),
        meta=Meta(
            event_id=str(uuid.uuid4()),
            hotel_slug=slug,
            ts=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            scope=_object({} if scope is None else scope, ("meta", "scope"), faults),
        ),
    )
    # What was no JSON has been told already, and the schema sees null in its place.
    told = {fault.pointer for fault in faults}
    specs = [spec for _, spec in carriers]
    faults += (fault for fault in _body_faults(specs, body) if fault.pointer not in told)
    if faults:
        raise InvalidEvent(name, *dict.fromkeys(faults))
    return body


@cache
def _hotel_contract() -> Contract:
    return load_contract()


# --- where it goes -----------------------------------------------------------------------------


def _carriers(
    contract: Contract, name: str, family: str | None, channel: str | None, faults: list[Fault]
) -> list[_Carrier]:
    """Return the families that the event may go to, with what each says of it."""
    if family is None and channel is None:
        return _listing(contract, name, faults)
    chosen = {each.name: each for each in contract.families}
    if family is not None and family not in chosen:
        known = ", ".join(sorted(chosen))
        faults.append(Fault("", f"the contract has no family {family!r}; it has {known}"))
        return []
    found = chosen[family] if family is not None else None
    if channel is not None:
        match = contract.match(channel) if is_channel_name(channel) else None
        if match is None or (found is not None and found is not match.family):
            where = "the contract" if found is None else f"the family {family}"
            faults.append(Fault("", f"{channel!r} is not a channel of {where}"))
            return []
        found = match.family
    return [(found, spec)] if found and (spec := _spec(found, name, faults)) else []


def _spec(family: ChannelFamily, name: str, faults: list[Fault]) -> EventSpec | None:
    try:
        spec, problems = listed(family, name)
    except NotAcceptable as error:
        spec, problems = None, [*error.faults]
    faults += problems
    return spec


def _listing(contract: Contract, name: str, faults: list[Fault]) -> list[_Carrier]:
    """Return the families that list the event; under its own name before a synonym."""
    found = [(each, spec) for each in contract.families if (spec := each.events.get(name))]
    if not found:
        # An unlisted name goes only where that was meant: it may be a misspelled one.
        others = " or ".join(each.name for each in contract.families if each.unlisted)
        hint = f"; for a name of your own say family={others}" if others else ""
        faults.append(Fault("/type", f"{name!r} is not an event of the contract{hint}"))
    return [each for each in found if each[1].name == name] or found


def _category(carriers: Sequence[_Carrier], faults: list[Fault]) -> str:
    found = frozenset[str]().union(
        *({spec.category} if spec.category else family.categories for family, spec in carriers)
    )
    if carriers and len(found) != 1:
        known = " or ".join(sorted(found)) or "none"
        fault = f"{known}? Name the family or the channel, or let the contract name the category"
        faults.append(Fault("/category", fault))
    return next(iter(found), "")


def _slug(contract: Contract, hotel: object, channel: str | None, faults: list[Fault]) -> str:
    """Return the hotel's slug; it has the right shape where the hotel's channels are its own."""
    names = [
        each.address.replace("{hotel_slug}", hotel)
        for each in contract.families
        if isinstance(hotel, str) and each.named_by_slug and each.address.count("{") == 1
    ]
    if (
        not isinstance(hotel, str)
        or not all(map(is_channel_name, (hotel, *names)))
        or any(
            (found := contract.match(name)) is None or found.hotel_slug != hotel for name in names
        )
    ):
        faults.append(Fault("/meta/hotel_slug", "must be a hotel's slug"))
        return ""
    match = contract.match(channel) if channel is not None else None
    if match is not None and match.hotel_slug not in {"", hotel}:
        fault = f"{hotel!r} differs from the channel's hotel {match.hotel_slug!r}"
        faults.append(Fault("/meta/hotel_slug", fault))
    return hotel


# --- what it says ------------------------------------------------------------------------------


def _body_faults(specs: list[EventSpec], body: Envelope) -> list[Fault]:
    faults: list[Fault] = []
    # As the server writes it.
    encoded = orjson.dumps(body)
    most = min((spec.max_bytes for spec in specs), default=MAX_EVENT_DATA)
    if len(encoded) > most:
        fault = f"has {len(encoded)} bytes; the allowed maximum is {most}"
        faults.append(Fault("", fault))
    for spec in specs:
        if spec.check is not None:
            faults += spec.check.faults(body["payload"])
        missing = [key for key in spec.scope if key not in body["meta"]["scope"]]
        faults += (Fault(pointer(("meta", "scope", key)), "missing") for key in missing)
    if may_hold_cards(encoded.decode()):
        for exempt in {spec.not_cards for spec in specs} or {frozenset[str]()}:
            _, paths = without_cards(body, exempt)
            faults += (Fault(pointer(path), "holds card data") for path in paths)
    return faults


def _object(value: object, steps: _Steps, faults: list[Fault]) -> dict[str, object]:
    if isinstance(value, Mapping):
        return _plain_object(value, steps, faults, frozenset())
    faults.append(Fault(pointer(steps), "must be an object"))
    return {}


def _plain(value: object, steps: _Steps, faults: list[Fault], within: frozenset[int]) -> object:
    """Return a copy of JSON's own types; ``None`` in place of what JSON has no form for.

    Args:
        value: anything.
        steps: where it stands.
        faults: what is found is added here.
        within: the ids of the containers that it stands in.

    """
    match value:
        case None | bool():
            return value
        case str() if _is_text(value):
            return str.__str__(value)  # of a subclass too, such as an enum's member
        case int() if _LEAST_INTEGER <= value <= _MOST_INTEGER:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case Mapping() | list() | tuple() if len(steps) < _MAX_DEPTH and id(value) not in within:
            within |= {id(value)}
            if isinstance(value, Mapping):
                return _plain_object(value, steps, faults, within)
            return [
                _plain(item, (*steps, index), faults, within) for index, item in enumerate(value)
            ]
        case str():
            fault = "is not encodable as UTF-8"
        case int():
            fault = "is an integer of more than 64 bits"
        case float():
            fault = "is not a finite number"
        case Mapping() | list() | tuple():
            fault = f"contains itself, or more than {_MAX_DEPTH} objects and lists in one another"
        case _:
            fault = f"is a {type(value).__name__}, which JSON has no form for"
    faults.append(Fault(pointer(steps), fault))
    return None


def _plain_object(
    value: Mapping[object, object], steps: _Steps, faults: list[Fault], within: frozenset[int]
) -> dict[str, object]:
    plain: dict[str, object] = {}
    for key, item in value.items():
        if isinstance(key, str) and _is_text(key):
            name = str.__str__(key)
            plain[name] = _plain(item, (*steps, name), faults, within)
        else:
            faults.append(Fault(pointer(steps), "has a key that is no string of UTF-8"))
    return plain


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

"""The envelope of a contract event: accepted spellings, normalized form, and what breaks it.

This is the structural part of the contract, that the server cannot route without; the mode decides
whether a violation refuses the event or is only counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from channels_spec.contract import ChannelFamily, ChannelMatch, EventSpec
from channels_spec.faults import Fault
from channels_spec.pusher import MAX_EVENT_NAME

_SNAKE_CASE: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*", re.ASCII)
# What goes into HTTP headers and, length first in one byte, into the header of a bus message.
_EVENT_ID: Final = re.compile(r"[!-~]{1,128}", re.ASCII)
_MAX_SLUG: Final = 200
_MAX_FILTER_VALUE: Final = 128
FILTER_KEYS: Final = ("booking_id", "room_number")
"""The keys of ``meta.scope`` that a subscriber may filter by."""


class NotAcceptable(ValueError):
    """The body cannot be delivered in any mode; ``faults`` say why."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Normalized:
    """A body made ready to publish."""

    event: str
    spec: EventSpec | None
    body: dict[str, object]
    enveloped: bool
    """False: a legacy body that goes out as it came, without envelope or sequence."""
    event_id: str
    hotel_slug: str
    violations: tuple[Fault, ...]
    """Against the contract's shape: refused in `enforce`, counted in `warn`."""
    warnings: tuple[Fault, ...]
    """Accepted spellings and missing extras: counted, never refused."""


def normalize(
    match: ChannelMatch,
    event: str | None,
    body: object,
    *,
    new_id: Callable[[], str],
    now: Callable[[], str],
) -> Normalized:
    """Normalize what a producer sent for a contract channel.

    Args:
        match: the channel.
        event: the Pusher event name, or ``None`` where the body's ``type`` is the name.
        body: the decoded JSON.
        new_id: makes the event id where the body has none.
        now: makes ``meta.ts`` (ISO 8601) where it is missing.

    Raises:
        NotAcceptable: in every mode.

    """
    if match.family.roster:
        raise NotAcceptable(Fault("", f"{match.channel} is a roster: it carries no events"))
    if not isinstance(body, dict):
        raise NotAcceptable(Fault("", "an event's body must be a JSON object"))
    if not isinstance(body.get("payload"), dict) or not isinstance(body.get("meta"), dict):
        return _legacy(match, event, body, new_id)
    return _Envelope(match, event, body).normalized(new_id, now)


def _legacy(
    match: ChannelMatch, event: str | None, body: dict[str, object], new_id: Callable[[], str]
) -> Normalized:
    if event is None:
        raise NotAcceptable(Fault("", "neither an envelope (payload, meta) nor an event's name"))
    spec, violations = listed(match.family, event)
    fault = Fault("", "not an envelope of category, type, payload and meta")
    return Normalized(
        event=(spec.name if spec else "") or event,
        spec=spec,
        body=body,
        enveloped=False,
        event_id=new_id(),
        hotel_slug=_legacy_hotel_slug(match, body),
        violations=(fault, *violations),
        warnings=(),
    )


def _legacy_hotel_slug(match: ChannelMatch, body: Mapping[str, object]) -> str:
    """Return whose event it is: a body that says so, if not in an envelope, is held to it."""
    meta = body.get("meta")
    stated = meta.get("hotel_slug") if isinstance(meta, dict) else None
    return match.hotel_slug if stated is None else _checked_slug(match, stated)


def _checked_slug(match: ChannelMatch, stated: object) -> str:
    if not isinstance(stated, str) or not stated.isascii() or not 0 < len(stated) <= _MAX_SLUG:
        raise NotAcceptable(Fault("/meta/hotel_slug", "must be a hotel's slug"))
    if match.hotel_slug and stated != match.hotel_slug:
        fault = f"{stated!r} differs from the channel's hotel {match.hotel_slug!r}"
        raise NotAcceptable(Fault("/meta/hotel_slug", fault))
    return stated


def listed(family: ChannelFamily, event: str) -> tuple[EventSpec | None, list[Fault]]:
    """Return a family's event by any of its names, or why the family has none of this name.

    Raises:
        NotAcceptable: in every mode.

    """
    if len(event) > MAX_EVENT_NAME:
        raise NotAcceptable(Fault("/type", f"longer than {MAX_EVENT_NAME} characters"))
    spec = family.events.get(event)
    if spec is None and event not in family.elsewhere and _SNAKE_CASE.fullmatch(event):
        spec = family.unlisted
    if spec is not None:
        return spec, []
    message = f"{event!r} is not an event of {family.address}"
    if event in family.elsewhere:
        message += f"; it belongs to {family.elsewhere[event]}"
    fault = Fault("/type", message)
    if family.for_guests:
        raise NotAcceptable(fault)
    return None, [fault]


class _Envelope:
    """The normalization of one envelope, step by step, gathering its faults."""

    __slots__ = ("body", "event", "match", "meta", "violations", "warnings")

    def __init__(self, match: ChannelMatch, event: str | None, body: dict[str, object]) -> None:
        self.match = match
        self.event = event
        self.body = dict(body)
        meta = body["meta"]
        self.meta: dict[str, object] = dict(meta) if isinstance(meta, dict) else {}
        self.violations: list[Fault] = []
        self.warnings: list[Fault] = []

    def normalized(self, new_id: Callable[[], str], now: Callable[[], str]) -> Normalized:
        event = self._type()
        spec, faults = listed(self.match.family, event)
        self.violations += faults
        self._category()
        self._scope(spec)
        if spec is not None and spec.check is not None:
            self.violations += spec.check.faults(self.body["payload"])
        hotel_slug = self._hotel_slug()
        event_id = self._event_id(new_id)
        if not isinstance(self.meta.get("ts"), str):
            self.warnings.append(Fault("/meta/ts", "missing; filled in"))
            self.meta["ts"] = now()
        for ours in ("sequence", "epoch"):
            self.meta.pop(ours, None)
        name = (spec.name if spec else "") or event
        self.body["type"] = name
        # meta comes last: its end is where the broker's script splices the number in.
        del self.body["meta"]
        self.body["meta"] = self.meta
        return Normalized(
            event=name,
            spec=spec,
            body=self.body,
            enveloped=True,
            event_id=event_id,
            hotel_slug=hotel_slug,
            violations=tuple(self.violations),
            warnings=tuple(self.warnings),
        )

    def _type(self) -> str:
        stated = self.body.get("type")
        synonym = self.body.pop("event_type", None)
        if stated is None and synonym is not None:
            self.warnings.append(Fault("/event_type", "accepted for type"))
            stated = synonym
        if stated is not None and not isinstance(stated, str):
            raise NotAcceptable(Fault("/type", "must be a string"))
        if self.event is None:
            if not stated:
                raise NotAcceptable(Fault("/type", "missing: it is the event's name"))
            return stated
        if not stated:
            self.violations.append(Fault("/type", "missing"))
        elif not self._same_event(stated, self.event):
            fault = f"differs from the event's name {self.event!r}"
            self.violations.append(Fault("/type", fault))
        return self.event

    def _same_event(self, stated: str, event: str) -> bool:
        known = self.match.family.events
        return stated == event or (stated in known and known[stated] is known.get(event))

    def _category(self) -> None:
        category = self.body.get("category")
        if category is not None and not isinstance(category, str):
            raise NotAcceptable(Fault("/category", "must be a string"))
        if category == "room" and "rooms" in self.match.family.categories:
            self.warnings.append(Fault("/category", "'room' accepted for 'rooms'"))
            self.body["category"] = "rooms"
        elif category not in self.match.family.categories:
            expected = " or ".join(sorted(self.match.family.categories))
            fault = f"expected {expected} on {self.match.family.address}"
            if category == "room_booking":
                fault += "; room bookings go to {hotel_slug}.room-bookings"
            self.violations.append(Fault("/category", fault))

    def _scope(self, spec: EventSpec | None) -> None:
        scope = self.meta.get("scope")
        if isinstance(scope, str):
            self.warnings.append(Fault("/meta/scope", "a string accepted as the audience"))
            self.meta["scope"] = {"audience": scope}
        elif scope is not None and not isinstance(scope, dict):
            self.violations.append(Fault("/meta/scope", "must be an object"))
        stated = self.meta.get("scope")
        known = stated if isinstance(stated, dict) else {}
        for key in spec.scope if spec is not None else ():
            if key not in known:
                self.warnings.append(Fault(f"/meta/scope/{key}", "missing"))

    def _hotel_slug(self) -> str:
        named, stated = self.match.hotel_slug, self.meta.get("hotel_slug")
        if stated is None:
            self.violations.append(Fault("/meta/hotel_slug", "missing"))
            if named:
                self.meta["hotel_slug"] = named
            return named
        return _checked_slug(self.match, stated)

    def _event_id(self, new_id: Callable[[], str]) -> str:
        event_id = self.meta.get("event_id")
        if event_id is None:
            self.warnings.append(Fault("/meta/event_id", "missing; filled in"))
            self.meta["event_id"] = event_id = new_id()
        if not isinstance(event_id, str) or not _EVENT_ID.fullmatch(event_id):
            fault = "must be a string of 1 to 128 printable ASCII characters without spaces"
            raise NotAcceptable(Fault("/meta/event_id", fault))
        return event_id


def filter_value(value: str | int) -> str:
    """Return a value of ``meta.scope`` as it is compared: text, no longer than a header takes."""
    return str(value).encode()[:_MAX_FILTER_VALUE].decode(errors="ignore")


def conflation_key(normalized: Normalized) -> str:
    """Return the key per which only the latest event counts; empty where every one does.

    That is so where it is not said whose event it is, and where a reader acts on what changed.
    """
    field = normalized.spec.conflate if normalized.spec is not None else ""
    payload = normalized.body.get("payload")
    if not field or not normalized.hotel_slug or not isinstance(payload, dict):
        return ""
    value = payload.get(field)
    if value is None or isinstance(value, dict | list) or "changed_fields" in payload:
        return ""
    return f"{normalized.event} {normalized.hotel_slug} {value}"


def scope_values(body: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """Return the values of ``meta.scope`` that a subscriber may filter by."""
    meta = body.get("meta")
    scope = meta.get("scope") if isinstance(meta, dict) else None
    if not isinstance(scope, dict):
        return ()
    return tuple(
        (key, filter_value(scope[key]))
        for key in FILTER_KEYS
        if isinstance(scope.get(key), str | int) and not isinstance(scope[key], bool)
    )

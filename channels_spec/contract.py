"""The contract: channel families and their events, loaded from an AsyncAPI document and frozen.

A channel belongs to the family whose address it matches; of several, to the most specific one,
which is the one with the most literal characters (`staff-chat-conversation-{id}` before
`staff-chat-{id}`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final, cast

import yaml

from channels_spec.validate import PayloadCheck

HOTEL_CONTRACT: Final = Path(__file__).with_name("hotel.asyncapi.yaml")
_PARAMETER: Final = re.compile(r"\{([a-z_]+)\}")
_KEY: Final = re.compile(r"[\w-]+\*?", re.ASCII)
"""A withheld field: with nothing in it that JSON would write in another way."""
_NEVER_WITHHELD: Final = '"category" "type" "payload" "meta" "event_id" "hotel_slug" "ts" "scope"'
"""An event without these is not an envelope, and the broker's script relies on ``meta``."""


class ContractError(ValueError):
    """The contract document cannot be used; the message says where and why."""


class Audience(StrEnum):
    """Who may subscribe to a family: the rule that `auth.access` applies."""

    HOTEL_STAFF = "hotel-staff"
    HOTEL_STAFF_BY_ID = "hotel-staff-by-id"
    BOOKING_GUEST = "booking-guest"
    STAFF_MEMBER = "staff-member"
    CONVERSATION_MEMBERS = "conversation-members"


_PARAMETER_OF: Final = {
    Audience.HOTEL_STAFF: "hotel_slug",
    Audience.HOTEL_STAFF_BY_ID: "hotel_id",
    Audience.BOOKING_GUEST: "booking_id",
    Audience.STAFF_MEMBER: "staff_id",
    Audience.CONVERSATION_MEMBERS: "conversation_id",
}


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """Which fields of an event a view shows."""

    name: str
    withhold: tuple[str, ...] = ()
    """Field names, or prefixes ending in ``*``, removed at any depth of the body."""
    withholds: re.Pattern[str] | None = None
    """Found in the JSON text of every body that the view withholds something of."""
    roles: frozenset[str] = frozenset()
    """Roles that get this view; empty: whoever may subscribe."""
    listed_fields_only: bool = False
    scope: tuple[str, ...] = ()
    """With ``listed_fields_only``, the keys of ``meta.scope`` that remain."""


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One event of a family."""

    name: str
    """Empty for the one that stands for every unlisted name of its family."""
    fields: tuple[str, ...] = ()
    """The payload fields that a view with ``listed_fields_only`` lets through."""
    guest_scope: str = "STATUS_READ"
    check: PayloadCheck | None = None
    scope: tuple[str, ...] = ()
    """Keys that ``meta.scope`` should have."""
    conflate: str = ""
    """The payload field per which a subscriber that is behind needs only the latest event."""
    summary: str = ""
    deprecated: bool = False
    not_cards: frozenset[str] = frozenset()
    """Fields whose numbers may look like card numbers."""


@dataclass(frozen=True, slots=True)
class ChannelFamily:
    """All channels of one address template."""

    name: str
    address: str
    pattern: re.Pattern[str]
    audience: Audience
    categories: frozenset[str]
    events: Mapping[str, EventSpec]
    """By name, synonyms included."""
    views: tuple[ViewSpec, ...]
    """Least view first."""
    private_twin: bool = False
    roster: bool = False
    unlisted: EventSpec | None = None
    """What stands for every snake_case name that is not listed; ``None``: there are none."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Events that ``unlisted`` does not stand for, and the address that they belong to."""

    @property
    def named_by_slug(self) -> bool:
        """Whether a channel's name says which hotel it is of."""
        return self.audience is Audience.HOTEL_STAFF

    @property
    def for_guests(self) -> bool:
        """Whether guests hear the family, so that only what is listed may leave."""
        return self.audience is Audience.BOOKING_GUEST


@dataclass(frozen=True, slots=True)
class ChannelMatch:
    """A channel of the contract: its family and what its name says."""

    channel: str
    family: ChannelFamily
    parameters: Mapping[str, str]

    @property
    def hotel_slug(self) -> str:
        """The hotel in the channel's name, or the empty string where the name has none."""
        return self.parameters.get("hotel_slug", "")

    @property
    def subject(self) -> str:
        """The parameter that the family's audience is decided by."""
        return self.parameters[_PARAMETER_OF[self.family.audience]]


@dataclass(frozen=True, slots=True)
class Contract:
    """The families, most specific first."""

    title: str
    families: tuple[ChannelFamily, ...]
    roles: frozenset[str] = field(default=frozenset())
    """Every role that some view names."""

    def match(self, channel: str) -> ChannelMatch | None:
        """Return the family that ``channel`` belongs to, or ``None`` outside the contract."""
        return _match(self, channel)

    def __hash__(self) -> int:
        return id(self)


@lru_cache(maxsize=16_384)
def _match(contract: Contract, channel: str) -> ChannelMatch | None:
    for family in contract.families:
        found = family.pattern.fullmatch(channel)
        if found is not None:
            return ChannelMatch(channel, family, found.groupdict())
    return None


def load_contract(path: Path = HOTEL_CONTRACT) -> Contract:
    """Load a contract from an AsyncAPI 3 document; raises `ContractError` naming file and place."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ContractError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: not readable as YAML: {error}") from None
    try:
        return _contract(_mapping(document, "the document"))
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None


def _contract(document: Mapping[str, object]) -> Contract:
    if not str(document.get("asyncapi", "")).startswith("3."):
        raise ContractError("asyncapi: expected version 3")
    views = {
        name: _view(name, _mapping(spec, f"x-bellhop-views.{name}"))
        for name, spec in _mapping(document.get("x-bellhop-views"), "x-bellhop-views").items()
    }
    channels = _mapping(document.get("channels"), "channels")
    families = [
        _family(document, name, _mapping(spec, f"channels.{name}"), views)
        for name, spec in channels.items()
    ]
    families.sort(key=lambda family: len(_PARAMETER.sub("", family.address)), reverse=True)
    info = _mapping(document.get("info"), "info")
    roles = frozenset(role for view in views.values() for role in view.roles)
    return Contract(str(info.get("title", "")), tuple(families), roles)


def _view(name: str, spec: Mapping[str, object]) -> ViewSpec:
    where = f"x-bellhop-views.{name}.withhold"
    # Keys are compared in lower case.
    withhold = tuple(key.lower() for key in _names(spec.get("withhold"), where))
    if any(_KEY.fullmatch(key) is None for key in withhold):
        raise ContractError(f"{where}: expected names of letters, digits, _ and -, or name*")
    withholds = _key_pattern(withhold) if withhold else None
    if withholds is not None and withholds.search(_NEVER_WITHHELD):
        raise ContractError(f"{where}: an envelope's own fields cannot be withheld")
    return ViewSpec(
        name=name,
        withhold=withhold,
        withholds=withholds,
        roles=frozenset(_names(spec.get("roles"), f"x-bellhop-views.{name}.roles")),
        listed_fields_only=spec.get("listed-fields-only") is True,
        scope=_names(spec.get("scope"), f"x-bellhop-views.{name}.scope"),
    )


def _key_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    keys = (re.escape(name[:-1]) if name.endswith("*") else re.escape(name) + '"' for name in names)
    return re.compile(f'"(?:{"|".join(keys)})', re.IGNORECASE)


def _family(
    document: Mapping[str, object],
    name: str,
    spec: Mapping[str, object],
    views: Mapping[str, ViewSpec],
) -> ChannelFamily:
    where = f"channels.{name}"
    address = str(spec.get("address", ""))
    try:
        audience = Audience(str(spec.get("x-bellhop-audience")))
    except ValueError:
        known = ", ".join(Audience)
        raise ContractError(f"{where}.x-bellhop-audience: expected one of {known}") from None
    if f"{{{_PARAMETER_OF[audience]}}}" not in address:
        raise ContractError(
            f"{where}.address: audience {audience} needs the parameter {_PARAMETER_OF[audience]}"
        )
    used = _names(spec.get("x-bellhop-views"), f"{where}.x-bellhop-views")
    if not used or any(view not in views for view in used):
        raise ContractError(f"{where}.x-bellhop-views: expected names from x-bellhop-views")
    private_twin = spec.get("x-bellhop-private-twin") is True
    events = _events(document, _mapping(spec.get("messages"), f"{where}.messages"), where)
    unlisted = spec.get("x-bellhop-unlisted")
    if unlisted is not None and unlisted not in events:
        raise ContractError(f"{where}.x-bellhop-unlisted: expected the name of a message here")
    standing_in = events.pop(unlisted) if isinstance(unlisted, str) else None
    return ChannelFamily(
        name=name,
        address=address,
        pattern=_pattern(document, spec, address, where, private_twin=private_twin),
        audience=audience,
        categories=frozenset(_names(spec.get("x-bellhop-categories"), where)),
        events=events,
        views=tuple(views[view] for view in used),
        private_twin=private_twin,
        roster=spec.get("x-bellhop-roster") is True,
        unlisted=replace(standing_in, name="") if standing_in is not None else None,
        elsewhere=_elsewhere(document, spec, where),
    )


def _pattern(
    document: Mapping[str, object],
    spec: Mapping[str, object],
    address: str,
    where: str,
    *,
    private_twin: bool,
) -> re.Pattern[str]:
    parameters = _mapping(spec.get("parameters"), f"{where}.parameters")
    parts = ["(?:private-)?"] if private_twin else []
    # re.split with one group alternates literals and parameter names.
    for index, part in enumerate(_PARAMETER.split(address)):
        if index % 2 == 0:
            parts.append(re.escape(part))
            continue
        parameter = _resolve(document, parameters.get(part), f"{where}.parameters.{part}")
        pattern = parameter.get("x-bellhop-pattern")
        if not isinstance(pattern, str):
            raise ContractError(f"{where}.parameters.{part}: x-bellhop-pattern is missing")
        parts.append(f"(?P<{part}>{pattern})")
    try:
        return re.compile("".join(parts), re.ASCII)
    except re.error as error:
        raise ContractError(f"{where}: x-bellhop-pattern: {error}") from None


def _events(
    document: Mapping[str, object], messages: Mapping[str, object], where: str
) -> dict[str, EventSpec]:
    events: dict[str, EventSpec] = {}
    for key, reference in messages.items():
        message = _resolve(document, reference, f"{where}.messages.{key}")
        event = _event(document, key, message, f"{where}.messages.{key}")
        for name in (event.name, *_names(message.get("x-bellhop-synonyms"), where)):
            events[name] = event
    return events


def _event(
    document: Mapping[str, object], key: str, message: Mapping[str, object], where: str
) -> EventSpec:
    return EventSpec(
        name=str(message.get("name", key)),
        fields=_names(message.get("x-bellhop-fields"), f"{where}.x-bellhop-fields"),
        guest_scope=str(message.get("x-bellhop-guest-scope", "STATUS_READ")),
        check=_payload_check(document, message, where),
        scope=_names(message.get("x-bellhop-scope"), f"{where}.x-bellhop-scope"),
        conflate=str(message.get("x-bellhop-conflate", "")),
        summary=str(message.get("summary", "")),
        deprecated=message.get("x-bellhop-deprecated") is True,
        not_cards=frozenset(_names(message.get("x-bellhop-not-cards"), where)),
    )


def _payload_check(
    document: Mapping[str, object], message: Mapping[str, object], where: str
) -> PayloadCheck | None:
    """Compile the payload's part of a message, which is an envelope with more said of it."""
    envelope = _mapping(message.get("payload", {}), f"{where}.payload")
    parts = envelope.get("allOf", [envelope])
    schemas = [
        properties["payload"]
        for part in (parts if isinstance(parts, list) else [])
        if isinstance(part, dict) and isinstance(properties := part.get("properties"), dict)
        if isinstance(properties.get("payload"), dict)
    ]
    if not schemas:
        return None
    components = _mapping(document.get("components", {}), "components")
    try:
        return PayloadCheck({"allOf": schemas}, _mapping(components.get("schemas", {}), "schemas"))
    except ValueError as error:
        raise ContractError(f"{where}.payload: {error}") from None


def _elsewhere(
    document: Mapping[str, object], spec: Mapping[str, object], where: str
) -> dict[str, str]:
    """Return the events of the channels that an unlisted event may not be of."""
    channels = _mapping(document.get("channels"), "channels")
    found: dict[str, str] = {}
    for name in _names(spec.get("x-bellhop-unlisted-not-of"), f"{where}.x-bellhop-unlisted-not-of"):
        other = _mapping(channels.get(name), f"channels.{name}")
        for event in _mapping(other.get("messages"), f"channels.{name}.messages"):
            found[event] = str(other.get("address"))
    return found


def _resolve(document: Mapping[str, object], value: object, where: str) -> Mapping[str, object]:
    spec = _mapping(value, where)
    reference = spec.get("$ref")
    if reference is None:
        return spec
    target: object = document
    for step in str(reference).removeprefix("#/").split("/"):
        target = target.get(step) if isinstance(target, dict) else None
    if target is None:
        raise ContractError(f"{where}: {reference} does not exist")
    return _mapping(target, str(reference))


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ContractError(f"{where}: expected a mapping")
    return cast("dict[str, object]", value)


def _names(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ContractError(f"{where}: expected a list of names")
    return tuple(value)

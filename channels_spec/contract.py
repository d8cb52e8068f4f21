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
from typing import Final

from channels_spec.document import (
    CHANNEL_KEYS,
    MESSAGE_KEYS,
    OURS,
    VIEW_KEYS,
    ContractError,
    Document,
    Gathered,
    Problem,
    flag,
    known_keys,
    mapping,
    names,
    payload_schemas,
    read_document,
    resolved,
)
from channels_spec.validate import PayloadCheck

HOTEL_CONTRACT: Final = Path(__file__).with_name("hotel.asyncapi.yaml")
_PARAMETER: Final = re.compile(r"\{([a-z_]+)\}")
_KEY: Final = re.compile(r"[\w-]+\*?", re.ASCII)
"""A withheld field: with nothing in it that JSON would write in another way."""
_NEVER_WITHHELD: Final = '"category" "type" "payload" "meta" "event_id" "hotel_slug" "ts" "scope"'
"""An event without these is not an envelope, and the broker's script relies on ``meta``."""


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
    category: str = ""
    """What an event is built with where its family has several categories."""
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
    return contract_of(read_document(path))


def contract_of(document: Document) -> Contract:
    """Return the contract that a document is; raises `ContractError` with all that is wrong."""
    problems: list[Problem] = []
    contract = None
    with Gathered(problems):
        contract = _contract(mapping(document.content, ""), problems)
    if contract is None or problems:
        raise document.refused(problems)
    return contract


def _contract(document: Mapping[str, object], problems: list[Problem]) -> Contract:
    if not str(document.get("asyncapi", "")).startswith("3."):
        problems.append(Problem("asyncapi", "expected version 3"))
    views: dict[str, ViewSpec] = {}
    for name, spec in mapping(document.get("x-bellhop-views"), "x-bellhop-views").items():
        # Families may name it, though it is wrong.
        views[name] = ViewSpec(name)
        with Gathered(problems):
            views[name] = _view(name, mapping(spec, f"x-bellhop-views.{name}"))
    families: list[ChannelFamily] = []
    for name, spec in mapping(document.get("channels"), "channels").items():
        with Gathered(problems):
            families.append(_family(document, name, mapping(spec, f"channels.{name}"), views))
    families.sort(key=lambda family: len(_PARAMETER.sub("", family.address)), reverse=True)
    info = mapping(document.get("info"), "info")
    roles = frozenset(role for view in views.values() for role in view.roles)
    return Contract(str(info.get("title", "")), tuple(families), roles)


def _view(name: str, spec: Mapping[str, object]) -> ViewSpec:
    where = f"x-bellhop-views.{name}"
    known_keys(spec, VIEW_KEYS, where)
    # Keys are compared in lower case.
    withhold = tuple(key.lower() for key in names(spec, "withhold", where))
    if any(_KEY.fullmatch(key) is None for key in withhold):
        cause = "expected names of letters, digits, _ and -, or name*"
        raise ContractError(Problem(f"{where}.withhold", cause))
    withholds = _key_pattern(withhold) if withhold else None
    if withholds is not None and withholds.search(_NEVER_WITHHELD):
        cause = "an envelope's own fields cannot be withheld"
        raise ContractError(Problem(f"{where}.withhold", cause))
    return ViewSpec(
        name=name,
        withhold=withhold,
        withholds=withholds,
        roles=frozenset(names(spec, "roles", where)),
        listed_fields_only=flag(spec, "listed-fields-only", where),
        scope=names(spec, "scope", where),
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
    problems: list[Problem] = []
    family: ChannelFamily | None = None
    events: dict[str, EventSpec] = {}
    with Gathered(problems):
        known_keys(spec, CHANNEL_KEYS, where, OURS)
    with Gathered(problems):
        family = _without_events(document, name, spec, views)
    with Gathered(problems):
        events = _events(document, mapping(spec.get("messages"), f"{where}.messages"), where)
    if family is None or problems:
        raise ContractError(*problems)
    for event in events.values():
        if event.category and event.category not in family.categories:
            cause = f"{event.name} has the category {event.category}, which is not among them"
            raise ContractError(Problem(f"{where}.x-bellhop-categories", cause))
    unlisted = spec.get("x-bellhop-unlisted")
    if unlisted is not None and unlisted not in events:
        cause = "expected the name of a message here"
        raise ContractError(Problem(f"{where}.x-bellhop-unlisted", cause))
    standing_in = replace(events.pop(unlisted), name="") if isinstance(unlisted, str) else None
    return replace(family, events=events, unlisted=standing_in)


def _without_events(
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
        problem = Problem(f"{where}.x-bellhop-audience", f"expected one of {known}")
        raise ContractError(problem) from None
    if f"{{{_PARAMETER_OF[audience]}}}" not in address:
        cause = f"audience {audience} needs the parameter {_PARAMETER_OF[audience]}"
        raise ContractError(Problem(f"{where}.address", cause))
    used = names(spec, "x-bellhop-views", where)
    if not used or any(view not in views for view in used):
        raise ContractError(
            Problem(f"{where}.x-bellhop-views", "expected names from x-bellhop-views")
        )
    private_twin = flag(spec, "x-bellhop-private-twin", where)
    return ChannelFamily(
        name=name,
        address=address,
        pattern=_pattern(document, spec, address, where, private_twin=private_twin),
        audience=audience,
        categories=frozenset(names(spec, "x-bellhop-categories", where)),
        events={},
        views=tuple(views[view] for view in used),
        private_twin=private_twin,
        roster=flag(spec, "x-bellhop-roster", where),
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
    parameters = mapping(spec.get("parameters"), f"{where}.parameters")
    parts = ["(?:private-)?"] if private_twin else []
    # re.split with one group alternates literals and parameter names.
    for index, part in enumerate(_PARAMETER.split(address)):
        if index % 2 == 0:
            parts.append(re.escape(part))
            continue
        parameter = resolved(document, parameters.get(part), f"{where}.parameters.{part}")
        pattern = parameter.get("x-bellhop-pattern")
        if not isinstance(pattern, str):
            problem = Problem(f"{where}.parameters.{part}", "x-bellhop-pattern is missing")
            raise ContractError(problem)
        parts.append(f"(?P<{part}>{pattern})")
    try:
        return re.compile("".join(parts), re.ASCII)
    except re.error as error:
        problem = Problem(f"{where}.parameters", f"x-bellhop-pattern: {error}")
        raise ContractError(problem) from None


def _events(
    document: Mapping[str, object], messages: Mapping[str, object], where: str
) -> dict[str, EventSpec]:
    events: dict[str, EventSpec] = {}
    problems: list[Problem] = []
    for key, reference in messages.items():
        place = f"{where}.messages.{key}"
        with Gathered(problems):
            message = resolved(document, reference, place)
            event = _event(document, key, message, place)
            for name in (event.name, *names(message, "x-bellhop-synonyms", place)):
                events[name] = event
    if problems:
        raise ContractError(*problems)
    return events


def _event(
    document: Mapping[str, object], key: str, message: Mapping[str, object], where: str
) -> EventSpec:
    known_keys(message, MESSAGE_KEYS, where, OURS)
    return EventSpec(
        name=str(message.get("name", key)),
        fields=names(message, "x-bellhop-fields", where),
        guest_scope=str(message.get("x-bellhop-guest-scope", "STATUS_READ")),
        check=_payload_check(document, message, where),
        scope=names(message, "x-bellhop-scope", where),
        category=str(message.get("x-bellhop-category", "")),
        conflate=str(message.get("x-bellhop-conflate", "")),
        summary=str(message.get("summary", "")),
        deprecated=flag(message, "x-bellhop-deprecated", where),
        not_cards=frozenset(names(message, "x-bellhop-not-cards", where)),
    )


def _payload_check(
    document: Mapping[str, object], message: Mapping[str, object], where: str
) -> PayloadCheck | None:
    """Compile the payload's part of a message, which is an envelope with more said of it."""
    schemas = payload_schemas(message, where)
    if not schemas:
        return None
    components = mapping(document.get("components", {}), "components")
    shared = mapping(components.get("schemas", {}), "components.schemas")
    try:
        return PayloadCheck({"allOf": schemas}, shared)
    except ValueError as error:
        raise ContractError(Problem(f"{where}.payload", str(error).partition("\n")[0])) from None


def _elsewhere(
    document: Mapping[str, object], spec: Mapping[str, object], where: str
) -> dict[str, str]:
    """Return the events of the channels that an unlisted event may not be of."""
    channels = mapping(document.get("channels"), "channels")
    found: dict[str, str] = {}
    for name in names(spec, "x-bellhop-unlisted-not-of", where):
        other = mapping(channels.get(name), f"channels.{name}")
        for event in mapping(other.get("messages"), f"channels.{name}.messages"):
            found[event] = str(other.get("address"))
    return found

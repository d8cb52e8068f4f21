"""Reading a contract: from an AsyncAPI document to `channels_spec.contract`, or all its faults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from channels_spec.contract import (
    Audience,
    Authorizer,
    ChannelFamily,
    Contract,
    EventSpec,
    Moves,
    ViewSpec,
)
from channels_spec.document import (
    CHANNEL_KEYS,
    MESSAGE_KEYS,
    MOVES_KEYS,
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
    number,
    payload_fields,
    payload_schemas,
    read_document,
    resolved,
    schema_parts,
)
from channels_spec.envelope import FILTER_KEYS
from channels_spec.pusher import MAX_EVENT_DATA
from channels_spec.validate import PayloadCheck

HOTEL_CONTRACT: Final = Path(__file__).with_name("hotel.asyncapi.yaml")
MOST_BYTES: Final = 256 * 1024
"""What an event may be allowed at most.

A quarter of what may wait for a client that is behind: of larger ones a few would end connections
that a moment later would have been in time. A request of the HTTP API, 1 MiB, has room for it even
where its text is escaped once more.
"""
_PARAMETER: Final = re.compile(r"\{([a-z_]+)\}")
_KEY: Final = re.compile(r"[\w-]+\*?", re.ASCII)
"""A withheld field: with nothing in it that JSON would write in another way."""
_NEVER_WITHHELD: Final = '"category" "type" "payload" "meta" "event_id" "hotel_slug" "ts" "scope"'
"""An event without these is not an envelope, and the broker's script relies on ``meta``."""
_NEVER_LOGGED: Final = frozenset({"primary_email"})

_Choice = TypeVar("_Choice", bound=StrEnum)


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
    roles = frozenset[str]().union(
        *(view.roles for view in views.values()), *(family.roles for family in families)
    )
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
    if withholds is not None and any(withholds.search(f'"{key}"') for key in FILTER_KEYS):
        # Whoever may filter by a value learns it.
        cause = f"{' and '.join(FILTER_KEYS)} cannot be withheld: subscribers filter by them"
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
    audience = _choice(Audience, spec.get("x-bellhop-audience"), f"{where}.x-bellhop-audience")
    if f"{{{audience.parameter}}}" not in address:
        cause = f"audience {audience} needs the parameter {audience.parameter}"
        raise ContractError(Problem(f"{where}.address", cause))
    used = names(spec, "x-bellhop-views", where)
    if not used or any(view not in views for view in used):
        raise ContractError(
            Problem(f"{where}.x-bellhop-views", "expected names from x-bellhop-views")
        )
    private_twin = flag(spec, "x-bellhop-private-twin", where)
    client_events = flag(spec, "x-bellhop-client-events", where)
    if client_events and audience is not Audience.HOTEL_STAFF:
        # What a client sends has no hotel_slug, so no guard would keep it in one hotel.
        cause = f"only with the audience {Audience.HOTEL_STAFF}: hotels share the other channels"
        raise ContractError(Problem(f"{where}.x-bellhop-client-events", cause))
    _check_views([views[view] for view in used], audience, where)
    authorizer = spec.get("x-bellhop-authorizer", Authorizer.CLAIMS)
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
        client_events=client_events,
        roles=frozenset(names(spec, "x-bellhop-roles", where)),
        authorizer=_choice(Authorizer, authorizer, f"{where}.x-bellhop-authorizer"),
    )


def _check_views(views: list[ViewSpec], audience: Audience, where: str) -> None:
    """Refuse views that would show more than was meant; raises `ContractError`."""
    place = f"{where}.x-bellhop-views"
    if views[0].roles:
        # It is what everybody without a role gets.
        cause = f"the first view is for all who may subscribe, and {views[0].name} names roles"
        raise ContractError(Problem(place, f"{cause}; x-bellhop-roles says who may subscribe"))
    if audience is Audience.BOOKING_GUEST and not views[0].listed_fields_only:
        cause = f"guests get listed fields only, and {views[0].name} shows the others too"
        raise ContractError(Problem(place, cause))


def _choice(choices: type[_Choice], value: object, where: str) -> _Choice:
    try:
        return choices(str(value))
    except ValueError:
        raise ContractError(Problem(where, f"expected one of {', '.join(choices)}")) from None


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
        ends_stay=flag(message, "x-bellhop-ends-stay", where),
        not_cards=frozenset(names(message, "x-bellhop-not-cards", where)),
        replay=flag(message, "x-bellhop-replay", where, default=True),
        max_bytes=number(
            message, "x-bellhop-max-bytes", where, most=MOST_BYTES, default=MAX_EVENT_DATA
        ),
        loggable=_loggable(message, where),
        moves=_moves(document, message, where),
    )


def _loggable(message: Mapping[str, object], where: str) -> frozenset[str]:
    keys = frozenset(names(message, "x-bellhop-loggable", where))
    if never := ", ".join(sorted(keys & _NEVER_LOGGED)):
        raise ContractError(Problem(f"{where}.x-bellhop-loggable", f"{never} is never logged"))
    return keys


def _moves(
    document: Mapping[str, object], message: Mapping[str, object], where: str
) -> Moves | None:
    if "x-bellhop-moves" not in message:
        return None
    where, fields = f"{where}.x-bellhop-moves", payload_fields(document, message, where)
    spec = mapping(message["x-bellhop-moves"], where)
    known_keys(spec, MOVES_KEYS, where)
    table = mapping(spec.get("allowed"), f"{where}.allowed")
    moves = Moves(
        field=str(spec.get("field", "")),
        per=str(spec.get("per", "")),
        allowed={before: frozenset(names(table, before, f"{where}.allowed")) for before in table},
    )
    problems = [
        Problem(f"{where}.{key}", f"{key} must be a field that the payload's schema names")
        for key, name in (("field", moves.field), ("per", moves.per))
        if name not in fields
    ]
    enums = [
        enum
        for schema in fields.get(moves.field, [])
        for part in schema_parts(document, schema)
        if isinstance(enum := part.get("enum"), list)
    ]
    for before, after in moves.allowed.items():
        problems += (
            Problem(f"{where}.allowed.{before}", f"{value} is no value of {moves.field}")
            for value in sorted({before, *after})
            if not all(value in enum for enum in enums)
        )
    if problems:
        raise ContractError(*problems)
    return moves


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

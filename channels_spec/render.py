"""The contract for readers: what `render_markdown` and `render_typescript` tell, gathered once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import yaml

from channels_spec.contract import ChannelFamily, Contract, EventSpec
from channels_spec.document import mapping, payload_schemas, resolved

MADE_BY: Final = "Made from the contract by `bellhop contract {command}`; do not edit it by hand."
_NO_ENVELOPES: Final = frozenset({"Envelope", "Meta"})
"""Schemas of what is around every payload: told in other words than a payload's."""

Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a payload."""

    name: str
    schema: Schema
    required: bool

    @property
    def description(self) -> str:
        """What the contract says of it."""
        return one_line(self.schema.get("description"))


@dataclass(frozen=True, slots=True)
class Event:
    """One message of the contract."""

    key: str
    """Its own among all messages: what is a guest's may have the name of what is the staff's."""
    spec: EventSpec
    synonyms: tuple[str, ...]
    listed_only: bool
    """Whether nothing but ``spec.fields`` leaves."""
    schema: Schema | None
    """Of the payload."""


@dataclass(frozen=True, slots=True)
class Family:
    """One family with its events in the document's order."""

    family: ChannelFamily
    description: str
    events: tuple[Event, ...]
    unlisted: Event | None

    @property
    def carried(self) -> tuple[Event, ...]:
        """Its events, and the one that stands for all other names."""
        return self.events if self.unlisted is None else (*self.events, self.unlisted)


@dataclass(frozen=True, slots=True)
class Reference:
    """The whole contract in the document's order."""

    title: str
    version: str
    description: str
    families: tuple[Family, ...]
    schemas: Mapping[str, Schema]
    """By name, but for those of the envelope."""

    @property
    def events(self) -> tuple[Event, ...]:
        """Every event once, whichever families carry it."""
        every = (event for family in self.families for event in family.carried)
        return tuple({event.key: event for event in every}.values())

    def fields(self, schema: Schema, above: frozenset[str] = frozenset()) -> dict[str, Field]:
        """Return the fields that a schema names, in its order; it is a part of those ``above``."""
        name = self.named(schema)
        if name in above:
            return {}
        if name is not None:
            return self.fields(self.schemas[name], above | {name})
        found: dict[str, Field] = {}
        for part in _list(schema.get("allOf")):
            found.update(self.fields(_dict(part), above))
        required = _list(schema.get("required"))
        for field, spec in _dict(schema.get("properties")).items():
            found[field] = Field(field, _dict(spec), field in required)
        return found

    def withholds(self, field: str) -> bool:
        """Whether some view does not show a field of this name."""
        return any(
            view.withholds is not None and view.withholds.search(f'"{field}"')
            for each in self.families
            for view in each.family.views
        )

    def named(self, schema: Schema) -> str | None:
        """Return the name of the schema that a schema refers to."""
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        return name if name in self.schemas else None


def asyncapi(document: Mapping[str, object]) -> str:
    """Return the document as YAML without aliases, which not every reader of AsyncAPI follows."""
    return yaml.dump(
        document, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True, width=100
    )


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def reference(document: Mapping[str, object], contract: Contract) -> Reference:
    """Gather what there is to tell; ``contract`` is what ``document`` was loaded as."""
    info = mapping(document.get("info"), "info")
    schemas = _dict(_dict(document.get("components")).get("schemas"))
    by_name = {family.name: family for family in contract.families}
    channels = [
        (by_name[name], mapping(spec, name))
        for name, spec in mapping(document.get("channels"), "channels").items()
    ]
    open_keys = {
        _key(family, key, value)
        for family, spec in channels
        if not _for_listed(family)
        for key, value in mapping(spec.get("messages"), family.name).items()
    }
    return Reference(
        title=contract.title,
        version=str(info.get("version", "")),
        description=one_line(info.get("description")),
        families=tuple(_family(document, family, spec, open_keys) for family, spec in channels),
        schemas={
            name: _dict(schema) for name, schema in schemas.items() if name not in _NO_ENVELOPES
        },
    )


def _family(
    document: Mapping[str, object], family: ChannelFamily, spec: Schema, open_keys: set[str]
) -> Family:
    events: list[Event] = []
    unlisted: Event | None = None
    for key, value in mapping(spec.get("messages"), family.name).items():
        message = resolved(document, value, key)
        name = str(message.get("name", key))
        found = family.events.get(name)
        own = _key(family, key, value)
        if _for_listed(family) and own in open_keys:
            # The same message, with less in it.
            own += "_listed"
        event = _event(own, found or family.unlisted, family, message)
        if found is None:
            unlisted = event
        else:
            events.append(event)
    return Family(family, one_line(spec.get("description")), tuple(events), unlisted)


def _for_listed(family: ChannelFamily) -> bool:
    return all(view.listed_fields_only for view in family.views)


def _key(family: ChannelFamily, key: str, value: object) -> str:
    place = mapping(value, key).get("$ref")
    return str(place).rpartition("/")[2] if place is not None else f"{family.name}_{key}"


def _event(key: str, spec: EventSpec | None, family: ChannelFamily, message: Schema) -> Event:
    schemas = payload_schemas(message, key)
    return Event(
        key=key,
        spec=spec or EventSpec(""),
        synonyms=tuple(str(name) for name in _list(message.get("x-bellhop-synonyms"))),
        listed_only=_for_listed(family),
        schema=None if not schemas else schemas[0] if len(schemas) == 1 else {"allOf": schemas},
    )


def one_line(text: object) -> str:
    """Return a text of the document without its line breaks."""
    return " ".join(str(text or "").split())


def type_name(*parts: str) -> str:
    """Return a name in PascalCase for anything that has one."""
    words = re.split("[^A-Za-z0-9]+", " ".join(parts))
    name = "".join(word[:1].upper() + word[1:] for word in words)
    return name if name[:1].isalpha() else f"T{name}"


def _dict(value: object) -> Mapping[str, object]:
    # Where any schema may stand, `true` may: it says nothing.
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []

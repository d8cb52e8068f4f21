"""The contract as TypeScript types: payloads, and the events of every channel family."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Final

from channels_spec.contract import Contract
from channels_spec.render import (
    MADE_BY,
    Event,
    Family,
    Field,
    Reference,
    Schema,
    one_line,
    reference,
    type_name,
)

_WIDTH: Final = 100
_NAME: Final = re.compile("[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)
_PLAIN: Final = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
    "array": "unknown[]",
    "object": "{ [field: string]: unknown }",
}
_MORE: Final = "  [field: string]: unknown;"
_ENVELOPE: Final = """\
/** What is said about an event. */
export interface Meta {
  /** The same for every delivery of one event. */
  event_id: string;
  /** The hotel that the event is of. */
  hotel_slug: string;
  /** ISO 8601: when the backend made the event. */
  ts: string;
  /** What the event is about. */
  scope?: { [key: string]: unknown };
  /** Rising by one per channel; set by the server. */
  sequence?: number;
  /** Of the sequence: numbers of two epochs cannot be compared. */
  epoch?: string;
  [field: string]: unknown;
}

/** What a callback is given. */
export interface Envelope<Category extends string, Type extends string, Payload> {
  category: Category;
  type: Type;
  payload: Payload;
  meta: Meta;
}
"""
_TAKEN: Final = frozenset({"ChannelName", "Envelope", "EventsOf", "Meta"})


def typescript(document: Mapping[str, object], contract: Contract) -> str:
    """Return a module of types, from a document and the contract that it was loaded as."""
    return "\n".join(_Module(reference(document, contract)).parts())


class _Module:
    """The names that the module gives, and its text."""

    __slots__ = ("_events", "_families", "_reference", "_schemas", "_taken")

    def __init__(self, contract: Reference) -> None:
        self._reference = contract
        self._taken = set(_TAKEN)
        self._schemas = {name: self._new(type_name(name)) for name in contract.schemas}
        self._families = {
            each.family.name: self._new(type_name(each.family.name, "events"))
            for each in contract.families
        }
        # Events that have a payload of their own: only some fields, or a schema without a name.
        self._events = {
            event.key: self._new(type_name(event.key))
            for event in contract.events
            if event.listed_only or (event.schema and contract.named(event.schema) is None)
        }

    def _new(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def parts(self) -> Iterator[str]:
        yield "// " + MADE_BY.format(command="typescript")
        yield ""
        yield f"// {one_line(self._reference.title)}, version {self._reference.version}."
        yield ""
        yield _ENVELOPE
        for name, schema in self._reference.schemas.items():
            yield from self._declared(self._schemas[name], schema, None)
        for event in self._reference.events:
            if event.key in self._events:
                yield from self._declared(
                    self._events[event.key],
                    event.schema or {},
                    event.spec.fields if event.listed_only else None,
                )
        for family in self._reference.families:
            yield from self._family(family)
        yield from self._by_channel()

    def _declared(self, name: str, schema: Schema, only: tuple[str, ...] | None) -> Iterator[str]:
        """Declare the type of a payload, or of a part of one; ``only`` these fields."""
        if "description" in schema:
            yield from _comment(one_line(schema["description"]), "")
        fields = self._reference.fields(schema)
        if only is not None:
            fields = {field: fields.get(field, Field(field, {}, required=False)) for field in only}
        elif not fields and schema.get("type") != "object":
            yield self._alias(name, schema)
            yield ""
            return
        yield f"export interface {name} {{"
        for field in fields.values():
            if field.description:
                yield from _comment(field.description, "  ")
            yield f"  {self._typed(field)};"
        if only is None:
            yield _MORE
        yield "}"
        yield ""

    def _alias(self, name: str, schema: Schema) -> str:
        return _union(f"export type {name} =", self._choices(schema))

    def _type(self, schema: Schema) -> str:
        return " | ".join(self._choices(schema))

    def _typed(self, field: Field) -> str:
        # What a view withholds is missing for some of the readers.
        mark = "" if field.required and not self._reference.withholds(field.name) else "?"
        return f"{_property(field.name)}{mark}: {self._type(field.schema)}"

    def _choices(self, schema: Schema) -> list[str]:
        """Return the types of which a value has one."""
        name = self._reference.named(schema)
        if name is not None:
            return [self._schemas[name]]
        if "const" in schema:
            return [_literal(schema["const"])]
        enum, of = schema.get("enum"), schema.get("anyOf", schema.get("oneOf"))
        if isinstance(enum, list):
            return list(dict.fromkeys(_literal(value) for value in enum))
        if isinstance(of, list):
            choices = (self._choices(each) for each in of if isinstance(each, dict))
            return list(dict.fromkeys(choice for each in choices for choice in each)) or ["unknown"]
        fields = self._reference.fields(schema)
        if fields:
            inside = (f"{self._typed(field)};" for field in fields.values())
            return [f"{{ {' '.join(inside)} [field: string]: unknown }}"]
        items = schema.get("items")
        types = schema.get("type")
        names = [str(name) for name in types] if isinstance(types, list) else [str(types)]
        if isinstance(items, dict) and "array" in names:
            array = self._type(items)
            array = f"({array})[]" if " " in array else f"{array}[]"
            return [array if name == "array" else _PLAIN.get(name, "unknown") for name in names]
        return list(dict.fromkeys(_PLAIN.get(name, "unknown") for name in names))

    def _payload(self, event: Event) -> str:
        if event.key in self._events:
            return self._events[event.key]
        return self._type(event.schema) if event.schema else "{ [field: string]: unknown }"

    def _family(self, family: Family) -> Iterator[str]:
        about = f"What is heard on `{family.family.address}`. {family.description}"
        yield from _comment(about, "")
        if not family.events and family.unlisted is None:
            yield f"export interface {self._families[family.family.name]} {{}}"
            yield ""
            return
        yield f"export interface {self._families[family.family.name]} {{"
        for event in family.events:
            deprecated = " @deprecated" if event.spec.deprecated else ""
            yield from _comment(one_line(event.spec.summary) + deprecated, "  ")
            name = event.spec.name
            of = [_category(family, event), json.dumps(name), self._payload(event)]
            yield _generic(f"  {_property(name)}: Envelope", of)
        if family.unlisted is not None:
            yield from _comment(one_line(family.unlisted.spec.summary), "  ")
            of = [_category(family, family.unlisted), "string", self._payload(family.unlisted)]
            yield _generic("  [event: string]: Envelope", of)
        yield "}"
        yield ""

    def _by_channel(self) -> Iterator[str]:
        """Map a channel's name to its events, as the server does, as far as a type can."""
        # A type knows no regular expressions: of two that match, the one with the longer beginning
        # goes first, for no slug of a hotel begins as another family does.
        families = sorted(
            self._reference.families,
            key=lambda each: (each.family.address.find("{"), -len(each.family.address)),
            reverse=True,
        )
        patterns = [(_template(each.family.address), each.family.name) for each in families]
        yield from _comment("The names of the contract's channels.", "")
        yield _union("export type ChannelName =", [pattern for pattern, _ in patterns])
        yield ""
        yield from _comment("The events of a channel, by its name.", "")
        yield "export type EventsOf<Name extends string> ="
        for index, (pattern, name) in enumerate(patterns):
            yield f"  {': ' if index else ''}Name extends {pattern} ? {self._families[name]}"
        yield "  : never;"
        yield ""


def _category(family: Family, event: Event) -> str:
    own = [event.spec.category] if event.spec.category else sorted(family.family.categories)
    return " | ".join(json.dumps(category) for category in own) or "string"


def _template(address: str) -> str:
    return "`" + re.sub(r"\{[a-z_]+\}", "${string}", address) + "`"


def _property(name: str) -> str:
    return name if _NAME.fullmatch(name) else json.dumps(name)


def _literal(value: object) -> str:
    """Return the type of one value of JSON."""
    return json.dumps(value) if value is None or isinstance(value, str | int | float) else "unknown"


def _union(head: str, choices: list[str]) -> str:
    line = f"{head} {' | '.join(choices)};"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([head, *(f"  | {choice}" for choice in choices)]) + ";"


def _generic(head: str, of: list[str]) -> str:
    line = f"{head}<{', '.join(of)}>;"
    if len(line) <= _WIDTH:
        return line
    inside = ",\n".join(f"    {each}" for each in of)
    return f"{head}<\n{inside}\n  >;"


def _comment(text: str, indent: str) -> Iterator[str]:
    # What would end the comment is pulled apart.
    text = text.replace("*/", "* /").strip()
    line = f"{indent}/** {text} */"
    if len(line) > _WIDTH:
        yield f"{indent}/**"
        for each in textwrap.wrap(text, _WIDTH - len(indent) - 3):
            yield f"{indent} * {each}"
        yield f"{indent} */"
    elif text:
        yield line

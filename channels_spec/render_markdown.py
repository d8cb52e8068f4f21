"""The contract as a page of reference for whoever writes a backend or a client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from channels_spec.contract import (
    Audience,
    Authorizer,
    ChannelFamily,
    Contract,
    EventSpec,
    Moves,
    ViewSpec,
)
from channels_spec.pusher import MAX_EVENT_DATA
from channels_spec.render import (
    MADE_BY,
    Event,
    Field,
    Reference,
    Schema,
    one_line,
    reference,
)

_AUDIENCE: Final = {
    Audience.HOTEL_STAFF: "staff of that hotel",
    Audience.HOTEL_STAFF_BY_ID: "staff of that hotel",
    Audience.BOOKING_GUEST: "the guest of that booking; staff of its hotel",
    Audience.STAFF_MEMBER: "that staff member",
    Audience.CONVERSATION_MEMBERS: "members of that conversation",
}
_ENVELOPE: Final = f"""\
## The envelope

Every event is a JSON object of these fields. A client gets it as the data of a Pusher event
whose name is `type`.

| field | |
|---|---|
| `category` | what kind of thing the event is about; each channel has its own |
| `type` | the event's name |
| `payload` | the fields below. On staff channels more fields may come than are listed |
| `meta.event_id` | the same for every delivery of one event: a second one is not delivered |
| `meta.hotel_slug` | the hotel that the event is of |
| `meta.ts` | when the backend made the event, ISO 8601 |
| `meta.scope` | what the event is about, by key; a missing key is a warning |
| `meta.sequence`, `meta.epoch` | the event's number on its channel, set by the server |

Where an event says nothing else, it is JSON of at most {MAX_EVENT_DATA:,} bytes, and a client that
was away for a moment gets it afterwards.
"""


def markdown(document: Mapping[str, object], contract: Contract) -> str:
    """Return the page, from a document and the contract that it was loaded as."""
    page = _Page(reference(document, contract))
    return "\n".join(page.lines()).rstrip() + "\n"


class _Page:
    """Where each event stands, and the page's lines."""

    __slots__ = ("_carriers", "_reference")

    def __init__(self, contract: Reference) -> None:
        self._reference = contract
        self._carriers: dict[str, list[ChannelFamily]] = {}
        for family in contract.families:
            for event in family.carried:
                self._carriers.setdefault(event.key, []).append(family.family)

    def lines(self) -> Iterator[str]:
        yield f"# {one_line(self._reference.title)}"
        yield ""
        yield f"<!-- {MADE_BY.format(command='markdown')} -->"
        yield ""
        yield " ".join((f"Version {self._reference.version}.", self._reference.description)).strip()
        yield ""
        yield from self._channels()
        yield from self._views()
        yield _ENVELOPE
        told: set[str] = set()
        for family in self._reference.families:
            events = [event for event in family.carried if event.key not in told]
            told.update(event.key for event in events)
            if events:
                yield f"## Events of `{family.family.address}`"
                yield ""
            for event in events:
                yield from self._event(event)
        yield from self._types()

    def _channels(self) -> Iterator[str]:
        yield "## Channels"
        yield ""
        yield from _row("channel", "who may hear it", "category", "views", "events")
        yield "|---|---|---|---|---|"
        for each in self._reference.families:
            family = each.family
            address = f"`{family.address}`"
            if family.private_twin:
                address += f"<br>`private-{family.address}`"
            events = [self._link(event) for event in each.carried]
            yield from _row(
                f"{address}<br>{each.description}",
                _audience(family),
                _codes(sorted(family.categories)) or "–",
                _codes(view.name for view in family.views),
                " ".join(events) or ("a roster: no events" if family.roster else "none"),
            )
        yield ""
        yield "A channel and its `private-` twin are two channels: same audience, same events."
        yield ""

    def _link(self, event: Event) -> str:
        name = f"`{event.spec.name}`" if event.spec.name else "any other name in snake_case"
        return f"[{name}](#{event.key})"

    def _views(self) -> Iterator[str]:
        yield "## Who sees which field"
        yield ""
        yield from _row("view", "for", "does not see", "on")
        yield "|---|---|---|---|"
        views = {view.name: view for each in self._reference.families for view in each.family.views}
        for view in views.values():
            on = (each.family for each in self._reference.families if view in each.family.views)
            yield from _row(
                f"`{view.name}`",
                f"roles {_codes(sorted(view.roles))}" if view.roles else "whoever may subscribe",
                _unseen(view),
                _codes(family.address for family in on),
            )
        yield ""
        yield "A field that is not seen is removed at any depth of the event."
        yield ""

    def _event(self, event: Event) -> Iterator[str]:
        spec = event.spec
        yield f'<a id="{event.key}"></a>'
        yield ""
        yield f"### {f'`{spec.name}`' if spec.name else 'Any other name in snake_case'}"
        yield ""
        deprecated = "**Deprecated.** " if spec.deprecated else ""
        yield f"{deprecated}{one_line(spec.summary)}".strip()
        yield ""
        carriers = self._carriers[event.key]
        category = f", category `{spec.category}`" if spec.category else ""
        yield f"- on {_codes(family.address for family in carriers)}{category}"
        if event.synonyms:
            yield f"- accepted also as {_codes(event.synonyms)}; it is delivered as `{spec.name}`"
        if event.listed_only:
            yield f"- guests need the scope `{spec.guest_scope}`"
        yield from _rules(spec)
        yield ""
        yield from self._payload(event)

    def _payload(self, event: Event) -> Iterator[str]:
        fields = self._reference.fields(event.schema) if event.schema else {}
        if event.listed_only:
            for name in event.spec.fields:
                fields.setdefault(name, Field(name, {}, required=False))
        if not fields:
            yield "Its payload is an open object: no field is required."
            yield ""
            return
        head = ("payload field", "type", "required")
        yield from _row(*head, "guests get it") if event.listed_only else _row(*head)
        yield "|---|---|---|---|" if event.listed_only else "|---|---|---|"
        for field in fields.values():
            kind = self._type(field.schema)
            if field.description:
                kind += f": {field.description}"
            cells = [f"`{field.name}`", kind, "yes" if field.required else ""]
            if event.listed_only:
                cells.append("yes" if field.name in event.spec.fields else "no")
            yield from _row(*cells)
        yield ""

    def _types(self) -> Iterator[str]:
        """Tell the schemas that fields refer to; those of whole payloads stand at their events."""
        payloads = {
            self._reference.named(event.schema) for event in self._reference.events if event.schema
        }
        yield "## Types"
        yield ""
        yield from _row("type", "is")
        yield "|---|---|"
        for name, schema in self._reference.schemas.items():
            fields = self._reference.fields(schema)
            if name in payloads and name not in self._referred():
                continue
            about = one_line(schema.get("description"))
            kind = self._type({**schema, "description": ""})
            if fields:
                required = (field.name for field in fields.values() if field.required)
                kind = f"object with {_codes(required)}"
            yield from _row(f'<a id="{name}"></a>`{name}`', f"{kind}. {about}".rstrip(". ") + ".")
        yield ""

    def _referred(self) -> set[str]:
        """Return the names of the schemas that are a part of another."""
        return {name for schema in self._reference.schemas.values() for name in self._parts(schema)}

    def _parts(self, value: object) -> Iterator[str]:
        if isinstance(value, dict):
            name = self._reference.named(value)
            if name is not None:
                yield name
            value = list(value.values())
        for item in value if isinstance(value, list) else ():
            yield from self._parts(item)

    def _type(self, schema: Schema) -> str:
        name = self._reference.named(schema)
        if name is not None:
            return f"[{name}](#{name})"
        if "const" in schema:
            return f"`{schema['const']}`"
        enum, of = schema.get("enum"), schema.get("anyOf", schema.get("oneOf"))
        if isinstance(enum, list):
            return " ".join("null" if value is None else f"`{value}`" for value in enum)
        if isinstance(of, list):
            choices = (self._type(each) for each in of if isinstance(each, dict))
            return " or ".join(dict.fromkeys(choices)) or "anything"
        fields = self._reference.fields(schema)
        if fields:
            return f"object with {_codes(fields)}"
        types = schema.get("type", "anything")
        items = schema.get("items")
        names = [str(name) for name in types] if isinstance(types, list) else [str(types)]
        listed = f"list of {self._type(items)}" if isinstance(items, dict) else "list"
        return " or ".join(listed if name == "array" else name for name in names)


def _audience(family: ChannelFamily) -> str:
    """Return who may hear a family; staff stands last, so that the roles are theirs alone."""
    audience = _AUDIENCE[family.audience]
    if family.roles:
        audience += f" with one of the roles {_codes(sorted(family.roles))}"
    if family.authorizer is Authorizer.CALLBACK:
        audience += "; the backend is asked"
    if family.client_events:
        audience += "; they may send client events"
    return audience


def _rules(spec: EventSpec) -> Iterator[str]:
    """Tell what the contract says of an event besides its payload."""
    if spec.scope:
        yield f"- `meta.scope` should have {_codes(spec.scope)}"
    if spec.conflate:
        yield (
            f"- a subscriber that is behind gets the latest event per `{spec.conflate}`,"
            " not all of them"
        )
    if not spec.replay:
        yield "- a client that was away does not get it afterwards"
    if spec.ends_stay:
        yield "- with it the guest of that booking loses access; where staff are told, 30 s later"
    if spec.max_bytes != MAX_EVENT_DATA:
        yield f"- it has at most {spec.max_bytes:,} bytes"
    if spec.not_cards:
        yield f"- {_codes(sorted(spec.not_cards))} may look like a card's number"
    if spec.loggable:
        yield f"- logs may show {_codes(sorted(spec.loggable))} of `meta.scope`"
    if spec.moves is not None:
        yield from _moves(spec.moves)


def _moves(moves: Moves) -> Iterator[str]:
    yield (
        f"- `{moves.field}` of a `{moves.per}` is expected to move as follows, and from any other"
        " value to any; another move is delivered, and counted as a warning"
    )
    for before, after in moves.allowed.items():
        yield f"  - from `{before}` to {_codes(sorted(after)) or 'none'}"


def _unseen(view: ViewSpec) -> str:
    unseen = _codes(view.withhold) or "– (sees all)"
    if not view.listed_fields_only:
        return unseen
    listed = "whatever is not listed at the event as what guests get"
    scope = f"; of `meta.scope` only {_codes(view.scope)} is left" if view.scope else ""
    return f"{listed}{scope}; {unseen}" if view.withhold else listed + scope


def _codes(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def _row(*cells: str) -> Iterator[str]:
    yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

"""The contract for readers: the committed page and types are of today's contract, and complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from channels_spec.document import mapping, read_document
from channels_spec.reading import HOTEL_CONTRACT, contract_of
from channels_spec.render import Reference, reference, type_name
from channels_spec.render_markdown import markdown
from channels_spec.render_typescript import typescript

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = read_document(HOTEL_CONTRACT)
CONTENT = mapping(DOCUMENT.content, "")
CONTRACT = contract_of(DOCUMENT)
PAGE = markdown(CONTENT, CONTRACT)
TYPES = typescript(CONTENT, CONTRACT)
_LINES = re.MULTILINE | re.DOTALL

EVERY_KIND = """\
asyncapi: 3.0.0
info: {title: "Every\\n kind"}
x-bellhop-views:
  staff: {withhold: [price]}
  boss: {roles: [admin]}
  list: {listed-fields-only: true}
channels:
  rooms:
    address: "{hotel_slug}.rooms"
    description: It ends */ not here. It is too long for one line of the module of types.
    parameters: &parameters {hotel_slug: {x-bellhop-pattern: "[a-z]+"}}
    x-bellhop-audience: hotel-staff
    x-bellhop-roles: [manager, admin]
    x-bellhop-authorizer: callback
    x-bellhop-client-events: true
    x-bellhop-views: [staff, boss]
    messages:
      room-cleaned: {$ref: "#/components/messages/room-cleaned"}
      in_place:
        x-bellhop-not-cards: [stamp]
        x-bellhop-replay: false
        x-bellhop-max-bytes: 20000
        x-bellhop-loggable: [reason, changes]
        x-bellhop-moves: {field: a|b, per: a|b, allowed: {dark: [lit, dim], lit: []}}
        payload: {properties: {payload: {properties: {a|b: {type: [array, "null"], items: {}}}}}}
      bare: {summary: Nothing is said of it.}
      envelope:
        payload:
          allOf:
            - properties: {payload: {$ref: "#/components/schemas/meta-data"}}
            - properties: {payload: {$ref: "#/components/schemas/1st"}}
  listed:
    address: "listed.{hotel_slug}"
    parameters: *parameters
    x-bellhop-audience: hotel-staff
    x-bellhop-views: [list]
    x-bellhop-categories: [a, b]
    messages:
      room-cleaned: {$ref: "#/components/messages/room-cleaned"}
      nothing: {x-bellhop-fields: []}
  silent:
    address: "silent.{hotel_slug}"
    parameters: *parameters
    x-bellhop-audience: hotel-staff
    x-bellhop-views: [list]
    messages: {}
components:
  messages:
    room-cleaned:
      x-bellhop-fields: [room-number, when]
      payload:
        properties:
          payload:
            required: [room-number, price]
            properties:
              room-number: {type: integer, description: Its number.}
              price: {type: number}
              hidden: true
  schemas:
    Envelope: {type: object}
    meta: {type: string, description: A name that the module has already.}
    meta-data:
      required: [kind]
      properties:
        kind: {const: "x"}
        size: {oneOf: [{type: integer}, {type: integer}, {$ref: "#/components/schemas/meta"}]}
        none: {anyOf: [true]}
        odd: {enum: [1, 1, true, null, a, [2]]}
        lists: {type: array, items: {type: [string, "null"]}}
        plain: {type: array, items: {type: string}}
        inside: {type: object, required: [deep], properties: {deep: {type: object}, flat: {}}}
    anything: true
    itself: {allOf: [true, {$ref: "#/components/schemas/itself"}], properties: {own: {}}}
    1st: {allOf: [{$ref: "#/components/schemas/meta-data"}, {properties: {more: {type: boolean}}}]}
"""


def rendered(tmp_path: Path) -> tuple[str, str]:
    """Return page and types of a contract with every kind of schema in it."""
    file = tmp_path / "contract.yaml"
    file.write_text(EVERY_KIND, "utf-8")
    document = read_document(file)
    content, contract = mapping(document.content, ""), contract_of(document)
    return markdown(content, contract), typescript(content, contract)


@pytest.mark.parametrize(
    "file, text", [("docs/contract.md", PAGE), ("clients/js/events.ts", TYPES)], ids=["md", "ts"]
)
def test_committed_file_is_of_todays_contract(file: str, text: str) -> None:
    """`make contract` has been run since the contract or the rendering changed."""
    assert (ROOT / file).read_text("utf-8") == text, "run `make contract`"


def told() -> Reference:
    """Return what there is to tell of the hotel contract."""
    return reference(CONTENT, CONTRACT)


def test_reference_has_every_family_and_event() -> None:
    """In the document's order, with the contract's own values, and none left out."""
    families = {family.name: family for family in CONTRACT.families}
    assert [each.family.name for each in told().families] == list(mapping(CONTENT["channels"], ""))
    for each in told().families:
        family = families[each.family.name]
        assert {event.spec.name for event in each.events} == {
            spec.name for spec in family.events.values()
        }
        names = {name for event in each.events for name in (event.spec.name, *event.synonyms)}
        assert names == set(family.events)
        assert (each.unlisted is None) == (family.unlisted is None)


def test_page_tells_every_family_and_event() -> None:
    """Addresses and twins; an event's section has its channels, fields, scope and synonyms."""
    sections = dict(re.findall(r'^<a id="([^"]+)"></a>\n(.*?)(?=^<a id=|^## |\Z)', PAGE, _LINES))
    for each in told().families:
        family = each.family
        assert f"| `{family.address}`" in PAGE
        assert (f"`private-{family.address}`" in PAGE) == family.private_twin
        for event in each.carried:
            section = sections[event.key]
            words = [family.address, event.spec.summary, *event.synonyms, *event.spec.scope]
            words += event.spec.fields
            words += told().fields(event.schema or {})
            assert [word for word in words if word not in section] == []
            assert (f"scope `{event.spec.guest_scope}`" in section) == family.for_guests
            assert (f"latest event per `{event.spec.conflate}`" in section) == bool(
                event.spec.conflate
            )
            assert ("**Deprecated.**" in section) == event.spec.deprecated
            assert ("does not get it afterwards" in section) != event.spec.replay
            assert ("is expected to move" in section) == (event.spec.moves is not None)


def test_page_tells_what_each_view_does_not_see() -> None:
    """A row for each view, with its roles and what is withheld from it."""
    for view in {view.name: view for each in CONTRACT.families for view in each.views}.values():
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{view.name}` |")]
        assert [
            word for word in (*view.roles, *view.withhold, *view.scope) if word not in row
        ] == []


def test_types_have_every_family_and_event() -> None:
    """An interface for each family with its events and no other, and the way from its name."""
    for each in told().families:
        name = type_name(each.family.name, "events")
        (body,) = re.findall(rf"^export interface {name} {{(.*?)}}$", TYPES, _LINES)
        events = re.findall(r"^  (\w+|\[event: string\]): Envelope<", body, re.MULTILINE)
        unlisted = ["[event: string]"] if each.unlisted else []
        assert events == [*(event.spec.name for event in each.events), *unlisted]
        template = re.sub(r"{\w+}", "${string}", each.family.address)
        assert f"Name extends `{template}` ? {name}\n" in TYPES


def test_types_let_nothing_leave_to_guests_but_what_is_listed() -> None:
    """A guest event's payload has exactly the listed fields, and no place for others."""
    for event in told().events:
        if event.listed_only:
            name = type_name(event.key)
            (body,) = re.findall(rf"^export interface {name} {{\n(.*?)^}}$", TYPES, _LINES)
            assert re.findall(r"^  (\S+?)\??: ", body, re.MULTILINE) == list(event.spec.fields)


def test_page_links_lead_somewhere() -> None:
    """Every link has its anchor, and no anchor stands twice."""
    anchors = re.findall(r'<a id="([^"]+)">', PAGE)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= set(anchors)


def test_types_tell_every_kind_of_schema(tmp_path: Path) -> None:
    """Names that are taken or no identifiers, parts of parts, and what the module cannot know."""
    _, types = rendered(tmp_path)
    assert "/**  */" not in types
    for line in (
        "// Every kind, version .",
        "export type Meta_ = string;",
        '  kind: "x";',
        "  size?: number | Meta_;",
        "  none?: unknown;",
        '  odd?: 1 | true | null | "a" | unknown;',
        "  lists?: (string | null)[];",
        "  plain?: string[];",
        "  inside?: { deep: { [field: string]: unknown }; flat?: unknown; [field: string]: unk",
        "export interface T1st {",
        "export type Anything = unknown;",
        "export interface Itself {\n  own?: unknown;\n",
        (
            "export interface RoomCleaned {\n  /** Its number. */\n"
            '  "room-number": number;\n  price?: number;\n  hidden?: unknown;\n  [field'
        ),
        (
            "export interface RoomCleanedListed {\n  /** Its number. */\n"
            '  "room-number": number;\n  when?: unknown;\n}'
        ),
        '  "a|b"?: unknown[] | null;',
        '  bare: Envelope<string, "bare", { [field: string]: unknown }>;',
        '  nothing: Envelope<"a" | "b", "nothing", ListedNothing>;',
        "export interface SilentEvents {}",
        "It ends * / not here.",
    ):
        assert line in types, line


def test_page_tells_every_kind_of_schema(tmp_path: Path) -> None:
    """The same for human readers; a bar does not break a table."""
    page, _ = rendered(tmp_path)
    for line in (
        "# Every kind\n",
        "| `a\\|b` | list of anything or null |  |",
        "| `kind` | `x` | yes |",
        "| `size` | integer or [meta](#meta) |  |",
        "| `none` | anything |  |",
        "| `odd` | `1` `1` `True` null `a` `[2]` |  |",
        "| `inside` | object with `deep` `flat` |  |",
        "| `room-number` | integer: Its number. | yes |",
        "| staff of that hotel with one of the roles `admin` `manager`; the backend is asked; ",
        "; they may send client events | – |",
        "- `stamp` may look like a card's number",
        "- a client that was away does not get it afterwards",
        "- it has at most 20,000 bytes",
        "- logs may show `changes` `reason` of `meta.scope`",
        "- `a|b` of a `a|b` is expected to move as follows",
        "  - from `dark` to `dim` `lit`\n  - from `lit` to none\n",
        "Its payload is an open object",
        "| none |",
    ):
        assert line in page, line

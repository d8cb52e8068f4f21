from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from channels_spec.contract import Contract
from channels_spec.document import MESSAGE_KEYS, ContractError, read_document
from channels_spec.reading import HOTEL_CONTRACT, load_contract

SMALL: dict[str, Any] = {
    "asyncapi": "3.0.0",
    "info": {"title": "Small", "version": "1"},
    "x-bellhop-views": {
        "staff": {"withhold": ["Payment", "deposit*"]},
        "boss": {"roles": ["admin"]},
    },
    "channels": {
        "rooms": {
            "address": "{hotel_slug}.rooms",
            "parameters": {"hotel_slug": {"$ref": "#/components/parameters/slug"}},
            "x-bellhop-audience": "hotel-staff",
            "x-bellhop-views": ["staff", "boss"],
            "x-bellhop-categories": ["rooms"],
            "messages": {
                "cleaned": {"$ref": "#/components/messages/cleaned"},
                "made_up": {},
            },
        },
    },
    "components": {
        "parameters": {"slug": {"x-bellhop-pattern": "[a-z]+"}},
        "messages": {
            "cleaned": {
                "name": "room_cleaned",
                "x-bellhop-fields": ["room_number"],
                "x-bellhop-synonyms": ["tidied"],
            }
        },
    },
}
REMOVED = object()


def load(tmp_path: Path, text: str | bytes) -> Contract:
    """Write a contract to a file and load it."""
    file = tmp_path / "contract.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_contract(file)


def changed(path: str, value: object) -> str:
    """Return the small contract with one place changed or removed."""
    document = copy.deepcopy(SMALL)
    *steps, last = path.split("/")
    place = document
    for step in steps:
        place = place[step]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return yaml.safe_dump(document)


def refusal(tmp_path: Path, text: str | bytes) -> str:
    """Return the first reason for a refusal, without file and line, which always stand before."""
    with pytest.raises(ContractError) as caught:
        load(tmp_path, text)
    before, _, reason = str(caught.value.problems[0]).partition(": ")
    assert before.partition(":")[0] == str(tmp_path / "contract.yaml")
    return reason


def test_contract_loads_what_the_document_says(tmp_path: Path) -> None:
    """A document of one's own is as good: names, synonyms, fields, views, least first."""
    contract = load(tmp_path, yaml.safe_dump(SMALL))
    (family,) = contract.families
    assert contract.title == "Small"
    assert contract.roles == {"admin"}
    assert set(family.events) == {"room_cleaned", "tidied", "made_up"}
    assert family.events["tidied"] is family.events["room_cleaned"]
    assert family.events["room_cleaned"].fields == ("room_number",)
    assert [view.name for view in family.views] == ["staff", "boss"]
    assert (family.private_twin, family.roster, family.unlisted) == (False, False, None)
    assert contract.match("grand.rooms") is not None
    assert contract.match("private-grand.rooms") is None


def test_contract_withholds_a_field_however_it_is_spelled(tmp_path: Path) -> None:
    """Keys are compared in lower case, so the contract's own spelling does not matter either."""
    (family,) = load(tmp_path, yaml.safe_dump(SMALL)).families
    assert family.views[0].withhold == ("payment", "deposit*")


def test_contracts_are_told_apart_when_they_share_a_channel(tmp_path: Path) -> None:
    """The look-up is remembered per contract: none answers for another."""
    first = load(tmp_path, yaml.safe_dump(SMALL))
    second = load(tmp_path, changed("channels/rooms/x-bellhop-categories", ["beds"]))
    categories = []
    for contract in (first, second, first):
        found = contract.match("grand.rooms")
        assert found is not None
        categories.append(set(found.family.categories))
    assert categories == [{"rooms"}, {"beds"}, {"rooms"}]


@pytest.mark.parametrize(
    "path, value, reason",
    [
        ("asyncapi", "2.6.0", "asyncapi: expected version 3"),
        ("asyncapi", REMOVED, "asyncapi: expected version 3"),
        ("info", [], "info: expected a mapping"),
        ("channels", REMOVED, "channels: expected a mapping"),
        ("channels/rooms", "x", "channels.rooms: expected a mapping"),
        ("x-bellhop-views", None, "x-bellhop-views: expected a mapping"),
        ("x-bellhop-views/boss", 5, "x-bellhop-views.boss: expected a mapping"),
        (
            "x-bellhop-views/boss/roles",
            "admin",
            "x-bellhop-views.boss.roles: expected a list of names",
        ),
        ("x-bellhop-views/boss/scope", [5], "x-bellhop-views.boss.scope: expected a list of names"),
        (
            "x-bellhop-views/staff/withhold",
            ['pay"ment'],
            "x-bellhop-views.staff.withhold: expected names of letters, digits, _ and -, or name*",
        ),
        (
            "x-bellhop-views/staff/withhold",
            ["m*"],
            "x-bellhop-views.staff.withhold: an envelope's own fields cannot be withheld",
        ),
        (
            "x-bellhop-views/staff/withhold",
            ["room_*"],
            (
                "x-bellhop-views.staff.withhold: booking_id and room_number cannot be withheld:"
                " subscribers filter by them"
            ),
        ),
        (
            "x-bellhop-views/staff/withhold",
            ["pay*", "Event_ID"],
            "x-bellhop-views.staff.withhold: an envelope's own fields cannot be withheld",
        ),
        (
            "channels/rooms/x-bellhop-audience",
            "everybody",
            (
                "channels.rooms.x-bellhop-audience: expected one of hotel-staff, hotel-staff-by-id,"
                " booking-guest, staff-member, conversation-members"
            ),
        ),
        (
            "channels/rooms/x-bellhop-audience",
            "booking-guest",
            "channels.rooms.address: audience booking-guest needs the parameter booking_id",
        ),
        (
            "channels/rooms/address",
            REMOVED,
            "channels.rooms.address: audience hotel-staff needs the parameter hotel_slug",
        ),
        (
            "channels/rooms/x-bellhop-views",
            [],
            "channels.rooms.x-bellhop-views: expected names from x-bellhop-views",
        ),
        (
            "channels/rooms/x-bellhop-views",
            ["staff", "owner"],
            "channels.rooms.x-bellhop-views: expected names from x-bellhop-views",
        ),
        (
            "channels/rooms/x-bellhop-views",
            ["boss", "staff"],
            (
                "channels.rooms.x-bellhop-views: the first view is for all who may subscribe, and"
                " boss names roles; x-bellhop-roles says who may subscribe"
            ),
        ),
        (
            "channels/rooms/parameters",
            {},
            "channels.rooms.parameters.hotel_slug: expected a mapping",
        ),
        (
            "channels/rooms/parameters/hotel_slug",
            {"description": "no pattern"},
            "channels.rooms.parameters.hotel_slug: x-bellhop-pattern is missing",
        ),
        (
            "components/parameters",
            {},
            "channels.rooms.parameters.hotel_slug: #/components/parameters/slug does not exist",
        ),
        (
            "components/parameters/slug",
            "x",
            "components.parameters.slug: expected a mapping",
        ),
        (
            "components",
            5,
            "channels.rooms.messages.cleaned: #/components/messages/cleaned does not exist",
        ),
        ("channels/rooms/messages", [], "channels.rooms.messages: expected a mapping"),
        (
            "channels/rooms/x-bellhop-private-twin",
            "yes",
            "channels.rooms.x-bellhop-private-twin: expected true or false",
        ),
        (
            "x-bellhop-views/staff/listed_fields_only",
            True,
            (
                "x-bellhop-views.staff.listed_fields_only: expected one of"
                " listed-fields-only, roles, scope, withhold"
            ),
        ),
        (
            "channels/rooms/messages/made_up",
            "x",
            "channels.rooms.messages.made_up: expected a mapping",
        ),
        (
            "components/messages/cleaned/x-bellhop-fields",
            "room_number",
            "channels.rooms.messages.cleaned.x-bellhop-fields: expected a list of names",
        ),
    ],
)
def test_contract_is_refused_naming_file_and_place(
    tmp_path: Path, path: str, value: object, reason: str
) -> None:
    """Whoever edits the document is told where it is wrong, and what was expected there."""
    assert refusal(tmp_path, changed(path, value)) == reason


def test_contract_is_refused_when_guests_would_get_more_than_listed_fields(tmp_path: Path) -> None:
    """A guest family takes no view that shows what nobody listed."""
    document = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    document["channels"]["guestBooking"]["x-bellhop-views"] = ["staff"]
    reason = refusal(tmp_path, yaml.safe_dump(document))
    place = "channels.guestBooking.x-bellhop-views"
    assert reason == f"{place}: guests get listed fields only, and staff shows the others too"


@pytest.mark.parametrize("text", ["a: [", b"\xff\xfe\xfa", "a: b: c"])
def test_contract_is_refused_when_it_is_no_yaml(tmp_path: Path, text: str | bytes) -> None:
    """A file that cannot be read as YAML is refused with what the parser says."""
    assert refusal(tmp_path, text).startswith("not readable as YAML: ")


def test_contract_is_refused_when_it_is_not_a_mapping(tmp_path: Path) -> None:
    """An empty file is YAML, but no document."""
    assert refusal(tmp_path, "") == "expected a mapping"


@pytest.mark.parametrize("pattern", ["[a-z", "(?P<hotel_slug>x)"])
def test_contract_is_refused_when_a_pattern_is_no_expression(tmp_path: Path, pattern: str) -> None:
    """A pattern that does not compile is told with its place."""
    text = changed("components/parameters/slug/x-bellhop-pattern", pattern)
    assert refusal(tmp_path, text).startswith("channels.rooms.parameters: x-bellhop-pattern: ")


def test_contract_is_refused_when_the_file_cannot_be_read(tmp_path: Path) -> None:
    """A missing file is named with the system's reason."""
    file = tmp_path / "nowhere.yaml"
    with pytest.raises(ContractError, match="No such file or directory") as caught:
        load_contract(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_contract_is_refused_telling_every_problem_with_its_line(tmp_path: Path) -> None:
    """Views, channels and events each say what is wrong with them; what they share is told once."""
    text = """\
asyncapi: 2.6.0
info: {title: Wrong}
x-bellhop-views:
  staff:
    withhold: payment
channels:
  rooms: &rooms
    address: "{hotel_slug}.rooms"
    parameters: {hotel_slug: {x-bellhop-pattern: "[a-z]+"}}
    x-bellhop-audience: hotel-staff
    x-bellhop-views: [staff]
    messages:
      room.cleaned: {$ref: "#/components/messages/room.cleaned"}
      room: {x-bellhop-colour: red}
      room.made_up: {$ref: "#/components/nowhere"}
  more_rooms: *rooms
  beds: []
components:
  messages:
    room.cleaned:
      x-bellhop-fields: room_number
"""
    with pytest.raises(ContractError) as caught:
        load(tmp_path, text)
    file = tmp_path / "contract.yaml"
    there_are = ", ".join(sorted(MESSAGE_KEYS))
    messages = "channels.rooms.messages"
    assert [str(problem) for problem in caught.value.problems] == [
        f"{file}:1: asyncapi: expected version 3",
        f"{file}:5: x-bellhop-views.staff.withhold: expected a list of names",
        f"{file}:14: {messages}.room.x-bellhop-colour: expected one of {there_are}",
        f"{file}:15: {messages}.room.made_up: #/components/nowhere does not exist",
        f"{file}:17: channels.beds: expected a mapping",
        f"{file}:21: {messages}.room.cleaned.x-bellhop-fields: expected a list of names",
    ]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("a: 1\nb: {c: 1, d: 2,\n  c: 3}\n", "2: b.c: given twice, again in line 3"),
        ("a: 1\nb: &b\n  - c: *b\n", "3: b.0.c: an alias of what it stands in"),
        ("a: &a [1]\nb: [*a, *a]\nc: *a\n", "1: x-bellhop-views: expected a mapping"),
        ("a: b: c", "1: not readable as YAML: mapping values are not allowed"),
        ("a:\n  ? [1]\n  : 2\n", "1: a: line 2 has a key that is no text: quote it"),
        ("a:\n  no: 2\n", "1: a: line 2 has a key that is no text: quote it"),
        ("a: !!binary é\n", "1: not readable as YAML: failed to convert base64 data into ascii"),
        ("a: \x00", " not readable as YAML: unacceptable character #x0000"),
    ],
)
def test_document_is_refused_when_it_would_mislead(tmp_path: Path, text: str, reason: str) -> None:
    """What YAML would take without a word, or cannot read, is told with its line."""
    with pytest.raises(ContractError) as caught:
        load(tmp_path, text)
    told = [str(problem) for problem in caught.value.problems]
    assert any(each.startswith(f"{tmp_path / 'contract.yaml'}:{reason}") for each in told), told


def test_line_of_a_path_that_is_not_there_is_its_parents(tmp_path: Path) -> None:
    """A missing key has no line; the one that should have it does."""
    file = tmp_path / "contract.yaml"
    file.write_text('\na:\n  b: {$ref: "#/x/y"}\n  c: {$ref: "#/a/d"}\n  d: 5\n')
    document = read_document(file)
    paths = ("", "z", "a.z", "a.b.z", "a.c.z", "a.d", "a.d.z")
    assert [document.line_of(path) for path in paths] == [1, 1, 2, 3, 4, 5, 5]

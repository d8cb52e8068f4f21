"""What a contract says of a family or an event besides their shape: read, refused, and applied."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from channels_spec.build import InvalidEvent, event
from channels_spec.contract import Audience, Authorizer, ChannelFamily, EventSpec, Moves
from channels_spec.document import CHANNEL_KEYS, MESSAGE_KEYS, ContractError
from channels_spec.pusher import MAX_EVENT_DATA
from channels_spec.reading import HOTEL_CONTRACT, MOST_BYTES
from tests.channels_spec.test_loading import SMALL, changed, load, refusal
from tests.people import CONTRACT

CLEANED = "components/messages/cleaned"
AT = "channels.rooms.messages.cleaned"
STATES = ["dirty", "clean", "closed"]
MOVES = {"field": "state", "per": "room", "allowed": {"dirty": ["clean"], "clean": []}}
# Every way that a schema may name a field: in place, by reference, in a part of it, more than once.
SCHEMAS: dict[str, Any] = {
    "Room": {
        "allOf": [
            True,
            {"$ref": "#/components/schemas/Room"},
            {"properties": {"room": {}, "note": True, "state": {"type": "string"}}},
        ],
        "properties": {"state": {"allOf": [{"$ref": "#/components/schemas/State"}]}},
    },
    "State": {"enum": STATES},
    "Few": {"enum": ["dirty", "clean"]},
}


def moving(*schemas: object, moves: object = MOVES, **payload: object) -> str:
    """Return the small contract with moves, and with these schemas for the payload."""
    document = copy.deepcopy(SMALL)
    document["components"]["schemas"] = SCHEMAS
    message = document["components"]["messages"]["cleaned"]
    message["x-bellhop-moves"] = moves
    message["payload"] = payload or {
        "allOf": [{"properties": {"payload": schema}} for schema in schemas]
    }
    return yaml.safe_dump(document)


def room_cleaned(tmp_path: Path, text: str) -> EventSpec:
    """Return the event of a small contract."""
    (family,) = load(tmp_path, text).families
    return family.events["room_cleaned"]


ROOM = {"$ref": "#/components/schemas/Room"}


# --- what is said, and what holds where nothing is ---------------------------------------------


def test_rules_are_the_defaults_where_the_contract_says_nothing(tmp_path: Path) -> None:
    """As it was before there was anything to say."""
    (family,) = load(tmp_path, yaml.safe_dump(SMALL)).families
    assert (family.client_events, family.roles, family.authorizer) == (False, frozenset(), "claims")
    for spec in family.events.values():
        assert (spec.replay, spec.max_bytes, spec.loggable, spec.moves) == (
            True,
            MAX_EVENT_DATA,
            frozenset(),
            None,
        )


@pytest.mark.parametrize(
    "key, value, name, read",
    [
        ("replay", False, "replay", False),
        ("replay", True, "replay", True),
        ("max-bytes", 1, "max_bytes", 1),
        ("max-bytes", MOST_BYTES, "max_bytes", MOST_BYTES),
        ("loggable", ["reason", "party_size"], "loggable", {"reason", "party_size"}),
    ],
)
def test_event_has_what_the_contract_says_of_it(
    tmp_path: Path, key: str, value: object, name: str, read: object
) -> None:
    """Under each of its names, and no other event has it."""
    (family,) = load(tmp_path, changed(f"{CLEANED}/x-bellhop-{key}", value)).families
    assert getattr(family.events["tidied"], name) == read
    assert family.events["made_up"] == EventSpec("made_up")


def test_unlisted_event_has_what_the_contract_says_of_its_stand_in(tmp_path: Path) -> None:
    """A name of one's own is held to the same as the message that stands for it."""
    document = copy.deepcopy(SMALL)
    document["channels"]["rooms"]["x-bellhop-unlisted"] = "made_up"
    document["channels"]["rooms"]["messages"]["made_up"] = {"x-bellhop-replay": False}
    (family,) = load(tmp_path, yaml.safe_dump(document)).families
    assert family.unlisted == EventSpec("", replay=False)


def test_family_has_what_the_contract_says_of_it(tmp_path: Path) -> None:
    """Roles count as named by the contract, beside those of the views."""
    document = copy.deepcopy(SMALL)
    document["channels"]["rooms"] |= {
        "x-bellhop-roles": ["housekeeping", "admin"],
        "x-bellhop-authorizer": "callback",
        "x-bellhop-client-events": True,
    }
    contract = load(tmp_path, yaml.safe_dump(document))
    (family,) = contract.families
    assert family.roles == {"housekeeping", "admin"}
    assert family.authorizer is Authorizer.CALLBACK
    assert family.client_events
    assert contract.roles == {"housekeeping", "admin"}
    same = load(tmp_path, changed("channels/rooms/x-bellhop-authorizer", "claims"))
    assert same.families[0].authorizer is Authorizer.CLAIMS


@pytest.mark.parametrize(
    "audience", [each for each in Audience if each is not Audience.HOTEL_STAFF]
)
def test_client_events_are_refused_where_hotels_share_a_channel(
    tmp_path: Path, audience: Audience
) -> None:
    """What a client sends names no hotel, so it may go only where the channel's name does."""
    document = copy.deepcopy(SMALL)
    document["x-bellhop-views"]["staff"]["listed-fields-only"] = True
    document["channels"]["rooms"] |= {
        "address": f"rooms-{{{audience.parameter}}}",
        "parameters": {audience.parameter: {"x-bellhop-pattern": "[a-z]+"}},
        "x-bellhop-audience": str(audience),
        "x-bellhop-client-events": False,
    }
    (family,) = load(tmp_path, yaml.safe_dump(document)).families
    assert not family.client_events
    document["channels"]["rooms"]["x-bellhop-client-events"] = True
    assert refusal(tmp_path, yaml.safe_dump(document)) == (
        "channels.rooms.x-bellhop-client-events: only with the audience hotel-staff:"
        " hotels share the other channels"
    )


SIZE = f"expected a whole number from 1 to {MOST_BYTES}"


@pytest.mark.parametrize(
    "path, value, reason",
    [
        (f"{CLEANED}/x-bellhop-replay", "no", f"{AT}.x-bellhop-replay: expected true or false"),
        (f"{CLEANED}/x-bellhop-replay", None, f"{AT}.x-bellhop-replay: expected true or false"),
        *(
            (f"{CLEANED}/x-bellhop-max-bytes", value, f"{AT}.x-bellhop-max-bytes: {SIZE}")
            for value in (0, -1, MOST_BYTES + 1, 10.5, True, "10240", None)
        ),
        (
            f"{CLEANED}/x-bellhop-loggable",
            "reason",
            f"{AT}.x-bellhop-loggable: expected a list of names",
        ),
        (
            f"{CLEANED}/x-bellhop-loggable",
            ["reason", "primary_email"],
            f"{AT}.x-bellhop-loggable: primary_email is never logged",
        ),
        (
            "channels/rooms/x-bellhop-roles",
            "admin",
            "channels.rooms.x-bellhop-roles: expected a list of names",
        ),
        *(
            (
                "channels/rooms/x-bellhop-authorizer",
                value,
                "channels.rooms.x-bellhop-authorizer: expected one of claims, callback",
            )
            for value in ("token", None, ["claims"])
        ),
        (
            "channels/rooms/x-bellhop-client-events",
            1,
            "channels.rooms.x-bellhop-client-events: expected true or false",
        ),
    ],
)
def test_rule_is_refused_naming_file_and_place(
    tmp_path: Path, path: str, value: object, reason: str
) -> None:
    """Whoever edits the document is told where it is wrong, and what was expected there."""
    assert refusal(tmp_path, changed(path, value)) == reason


# --- moves -------------------------------------------------------------------------------------


def test_move_is_unusual_only_where_the_table_leads_elsewhere() -> None:
    """To stay is no move, and what has no line in the table may lead anywhere."""
    moves = Moves("state", "room", {"dirty": frozenset({"clean"}), "clean": frozenset()})
    unusual = {(a, b) for a in STATES for b in STATES if moves.unusual(a, b)}
    assert unusual == {("dirty", "closed"), ("clean", "dirty"), ("clean", "closed")}


@pytest.mark.parametrize(
    "schemas",
    [
        [ROOM],
        [{"properties": {"room": {}}}, {"properties": {"state": {}}}],
        [{"allOf": [{"properties": {"room": {}}}, {"properties": {"state": {"enum": STATES}}}]}],
    ],
)
def test_moves_are_read_wherever_the_schema_names_their_fields(
    tmp_path: Path, schemas: list[object]
) -> None:
    """By reference or in place, in one part or several; a field without an enum takes any value."""
    moves = room_cleaned(tmp_path, moving(*schemas)).moves
    assert moves is not None
    assert (moves.field, moves.per) == ("state", "room")
    assert moves.allowed == {"dirty": {"clean"}, "clean": frozenset()}


NO_FIELD = ".field: field must be a field that the payload's schema names"
NO_PER = ".per: per must be a field that the payload's schema names"
FEW = {"properties": {"room": {}, "state": {"$ref": "#/components/schemas/Few"}}}


@pytest.mark.parametrize(
    "schemas, moves, faults",
    [
        ([ROOM], [], [": expected a mapping"]),
        ([ROOM], {**MOVES, "form": "room"}, [".form: expected one of allowed, field, per"]),
        ([ROOM], {**MOVES, "allowed": ["dirty"]}, [".allowed: expected a mapping"]),
        ([ROOM], {"field": "state", "per": "room"}, [".allowed: expected a mapping"]),
        (
            [ROOM],
            {**MOVES, "allowed": {"dirty": "clean"}},
            [".allowed.dirty: expected a list of names"],
        ),
        ([ROOM], {**MOVES, "field": "status"}, [NO_FIELD]),
        ([ROOM], {"allowed": {}}, [NO_FIELD, NO_PER]),
        ([], MOVES, [NO_FIELD, NO_PER]),
        ([True], {**MOVES, "per": ["room"]}, [NO_FIELD, NO_PER]),
        (
            [ROOM],
            {**MOVES, "allowed": {"dirty": ["clean", "gone"], "lost": ["clean", "away"]}},
            [
                ".allowed.dirty: gone is no value of state",
                ".allowed.lost: away is no value of state",
                ".allowed.lost: lost is no value of state",
            ],
        ),
        (
            # A value is one that every schema of the field has.
            [ROOM, FEW],
            {**MOVES, "allowed": {"dirty": ["closed"]}},
            [".allowed.dirty: closed is no value of state"],
        ),
    ],
)
def test_moves_are_refused_naming_every_fault(
    tmp_path: Path, schemas: list[object], moves: object, faults: list[str]
) -> None:
    """A misspelt field or value would be a rule that never holds; each is told with its line."""
    text = moving(*schemas, moves=moves)
    with pytest.raises(ContractError) as caught:
        load(tmp_path, text)
    told = [str(problem).partition(f": {AT}.x-bellhop-moves") for problem in caught.value.problems]
    assert sorted(cause for _, _, cause in told) == sorted(faults)
    lines = text.splitlines()
    for place, _, cause in told:
        key = cause.partition(":")[0].rpartition(".")[2] or "x-bellhop-moves"
        at = lines[int(place.rpartition(":")[2]) - 1].strip()
        # A key that is not there has the line of the one that should have it.
        assert at.startswith((f"{key}:", "x-bellhop-moves:"))


def test_moves_are_refused_where_the_payload_has_no_schema(tmp_path: Path) -> None:
    """Nobody says then that there is such a field."""
    reason = refusal(tmp_path, changed(f"{CLEANED}/x-bellhop-moves", MOVES))
    assert reason == f"{AT}.x-bellhop-moves{NO_FIELD}"


# --- the hotel contract ------------------------------------------------------------------------


def specs() -> list[tuple[ChannelFamily, EventSpec]]:
    """Return every event of the hotel contract with its family."""
    return [
        (family, spec)
        for family in CONTRACT.families
        for spec in (*family.events.values(), *([family.unlisted] if family.unlisted else []))
    ]


def test_hotel_contract_leaves_all_but_the_rooms_moves_at_their_defaults() -> None:
    """It names no bell, no larger event, no further key for logs, no role and no client event."""
    for family in CONTRACT.families:
        assert (family.client_events, family.roles) == (False, frozenset()), family.name
        assert family.authorizer is Authorizer.CLAIMS
    for _, spec in specs():
        assert (spec.replay, spec.max_bytes, spec.loggable) == (True, 10_240, frozenset())
    moving_events = {(family.name, spec.name) for family, spec in specs() if spec.moves}
    assert moving_events == {("rooms", "room_updated"), ("staffHotel", "room_updated")}


WORKFLOW = {
    "READY_FOR_GUEST": "OCCUPIED",
    "OCCUPIED": "CHECKOUT_DIRTY",
    "CHECKOUT_DIRTY": "CLEANING_IN_PROGRESS",
    "CLEANING_IN_PROGRESS": "CLEANED_UNINSPECTED",
    "CLEANED_UNINSPECTED": "READY_FOR_GUEST",
}
ASIDE = {"MAINTENANCE_REQUIRED", "OUT_OF_ORDER"}


def test_rooms_move_by_the_workflow_or_aside() -> None:
    """One step on, into maintenance and out of order from anywhere, and from there anywhere."""
    statuses = {*WORKFLOW, *ASIDE}
    for moves in [spec.moves for _, spec in specs() if spec.moves is not None]:
        assert (moves.field, moves.per) == ("room_status", "room_number")
        for before in statuses:
            usual = {now for now in statuses if not moves.unusual(before, now)}
            expected = {before, WORKFLOW[before], *ASIDE} if before in WORKFLOW else statuses
            assert usual == expected


def test_hotel_contract_tells_at_its_head_what_each_key_means() -> None:
    """Who edits it need not look elsewhere."""
    head, _, _ = HOTEL_CONTRACT.read_text("utf-8").partition("\nasyncapi:")
    assert set(head.split()) >= CHANNEL_KEYS | MESSAGE_KEYS
    assert f"1 to {MOST_BYTES} ({MAX_EVENT_DATA})" in head


# --- built events ------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [300, 20_000])
def test_event_is_built_up_to_the_size_that_the_contract_allows(
    tmp_path: Path, allowed: int
) -> None:
    """Less or more than others; the fault names the limit."""
    contract = load(tmp_path, changed(f"{CLEANED}/x-bellhop-max-bytes", allowed))
    bare = event("tidied", hotel="grand", payload={}, contract=contract)
    size = len(str(bare).replace(": ", ":").replace(", ", ","))

    def padded(to: int) -> None:
        payload = {"pad": "x" * (to - size - len('"pad":""'))}
        event("tidied", hotel="grand", payload=payload, contract=contract)

    padded(allowed)
    with pytest.raises(InvalidEvent) as caught:
        padded(allowed + 1)
    cause = f"has {allowed + 1} bytes; the allowed maximum is {allowed}"
    assert [str(fault) for fault in caught.value.faults] == [f"/: {cause}"]

"""Events as a backend builds them: held to the contract, and accepted by the server as they are."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import tomllib
import uuid
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from importlib.metadata import PathDistribution, distribution
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from channels_spec import InvalidEvent, event
from channels_spec.contract import ChannelFamily
from channels_spec.document import ContractError
from channels_spec.pusher import MAX_EVENT_DATA
from server.encoding import Event
from server.publisher import ContractMode, Publisher
from tests.channels_spec.test_loading import SMALL, changed, load
from tests.channels_spec.test_payloads import REQUIRED, ROOM
from tests.harness import ROOT
from tests.people import CONTRACT
from tests.server.test_card_rule import NoBroker

HOTEL = "hotel-killarney"
PARAMETERS = {
    "hotel_slug": HOTEL,
    "hotel_id": "17",
    "booking_id": "BK-1",
    "staff_id": "12",
    "conversation_id": "3",
}
CARD = "4111 1111 1111 1111"
CARRIED = [
    (family, name)
    for family in CONTRACT.families
    for name in (*family.events, *(("table_reserved",) if family.unlisted else ()))
]


PAYLOADS = {
    name: REQUIRED[spec.name]
    for family in CONTRACT.families
    for name, spec in family.events.items()
}
SCOPES = {
    key: "x"
    for family in CONTRACT.families
    for spec in family.events.values()
    for key in spec.scope
}


def channel_of(family: ChannelFamily) -> str:
    """Return a channel of a family."""
    return re.sub(r"\{(\w+)\}", lambda found: PARAMETERS[found[1]], family.address)


def built(name: str = "room_updated", **given_: Any) -> Any:
    """Build a complete event, with parts replaced."""
    payload = PAYLOADS.get(name, {"booking_id": "BK-1"})
    return event(name, **{"hotel": HOTEL, "payload": payload, "scope": SCOPES, **given_})


def faults(name: str = "room_updated", **given_: Any) -> list[str]:
    """Return why an event is not built, and hold that the error's text has all of it."""
    with pytest.raises(InvalidEvent) as caught:
        built(name, **given_)
    found = [str(fault) for fault in caught.value.faults]
    assert str(caught.value) == f"{name}: " + "; ".join(found)
    assert isinstance(caught.value, ValueError)
    return found


def hold_accepted(channel: str, body: Mapping[str, Any]) -> None:
    """Hold that the server takes it in `enforce`, by each entrance, and has nothing to count."""
    publisher = Publisher(CONTRACT, NoBroker(), mode=ContractMode.ENFORCE, serves_unlisted=False)
    text = json.dumps(body)
    for entered in (
        Event("1", channel, None, json.loads(text)),
        Event("1", channel, body["type"], text),
    ):
        assert publisher.prepare(entered).event_id == body["meta"]["event_id"]
    assert publisher.violations == {}


@pytest.mark.parametrize(
    "family, name", CARRIED, ids=lambda value: value if isinstance(value, str) else value.name
)
def test_event_is_accepted_as_built(family: ChannelFamily, name: str) -> None:
    """Every event of every family, by each of its names: no violation and no warning."""
    spec = family.events.get(name, family.unlisted)
    assert spec is not None
    given_ = {"payload": PAYLOADS.get(name, {"booking_id": "BK-1"})}
    given_["scope"] = dict.fromkeys(spec.scope, "x")
    channel = channel_of(family)
    ways = [({"family": family.name}, channel), ({"channel": channel}, channel)]
    if family.private_twin:
        ways.append(({"channel": f"private-{channel}"}, f"private-{channel}"))
    for way, published in ways:
        body = built(name, **given_, **way)
        assert body["type"] == (spec.name or name)
        assert body["category"] in family.categories
        hold_accepted(published, body)


def test_envelope_has_all_that_the_contract_asks_for() -> None:
    """An id of its own, the time of now in UTC, and copies of what was given."""
    before = datetime.now(UTC)
    body = built()
    after = datetime.now(UTC)
    meta = body.pop("meta")
    assert body == {"category": "rooms", "type": "room_updated", "payload": ROOM}
    assert body["payload"] is not ROOM
    assert uuid.UUID(meta["event_id"]).version == 4
    assert meta["ts"].endswith("Z")
    assert before - timedelta(milliseconds=1) <= datetime.fromisoformat(meta["ts"]) <= after
    assert (meta["hotel_slug"], meta["scope"]) == (HOTEL, SCOPES)
    assert meta["scope"] is not SCOPES
    assert built()["meta"]["event_id"] != meta["event_id"]


@pytest.mark.parametrize(
    "name, where, category",
    [
        ("room_updated", {}, "rooms"),
        ("room_updated", {"channel": "staff-hotel-17"}, "rooms"),
        ("booking_updated", {"family": "staffHotel"}, "room_booking"),
        ("booking_confirmed", {"family": "roomBookings"}, "room_booking"),
        ("booking_confirmed", {"channel": "private-guest-booking.BK-1"}, "guest_booking"),
        ("booking_confirmed", {"channel": "guest-booking-BK-1"}, "guest_booking"),
        (
            "booking_confirmed",
            {"family": "guestBooking", "channel": "guest-booking-BK-1"},
            "guest_booking",
        ),
        ("room_assigned", {}, "rooms"),
        ("room_assigned", {"family": "guestBooking"}, "guest_booking"),
        ("room_service_order_created", {}, "room_service"),
        ("chat_message_created", {}, "chat"),
        ("checked_in", {}, "guest_booking"),
        ("staff_chat_unread_updated", {}, "staff_chat"),
        ("table_reserved", {"family": "otherBookings"}, "booking"),
    ],
)
def test_category_is_of_the_family_that_carries_the_event(
    name: str, where: dict[str, str], category: str
) -> None:
    """The channel decides, or the family, or the event itself where all of its families agree."""
    assert built(name, **where)["category"] == category


def test_category_of_an_event_is_one_of_its_channels(tmp_path: Path) -> None:
    """A contract that says another is refused, or what is built would be too."""
    text = changed("components/messages/cleaned/x-bellhop-category", "booking")
    cause = "room_cleaned has the category booking, which is not among them"
    with pytest.raises(ContractError, match=f"channels.rooms.x-bellhop-categories: {cause}"):
        load(tmp_path, text)
    own = load(tmp_path, changed("channels/rooms/x-bellhop-categories", ["rooms", "cleaning"]))
    (fault,) = faults("tidied", hotel="grand", contract=own)
    assert fault.startswith("/category: cleaning or rooms? ")
    own = load(tmp_path, changed("channels/rooms/x-bellhop-categories", []))
    (fault,) = faults("tidied", hotel="grand", contract=own)
    assert fault.startswith("/category: none? ")


AMBIGUOUS = "/category: guest_booking or room_booking? Name the family or the channel"
NO_PLACE: dict[str, tuple[str, dict[str, str], str]] = {
    "several categories": ("booking_confirmed", {}, AMBIGUOUS),
    "misspelled": (
        "room_updatd",
        {},
        (
            "/type: 'room_updatd' is not an event of the contract;"
            " for a name of your own say family=otherBookings"
        ),
    ),
    "of another family": (
        "room_updated",
        {"family": "roomBookings"},
        "/type: 'room_updated' is not an event of {hotel_slug}.room-bookings",
    ),
    "of another channel": (
        "booking_created",
        {"channel": f"{HOTEL}.booking"},
        (
            "/type: 'booking_created' is not an event of {hotel_slug}.booking;"
            " it belongs to {hotel_slug}.room-bookings"
        ),
    ),
    "not for guests": (
        "booking_created",
        {"channel": "private-guest-booking.BK-1"},
        "/type: 'booking_created' is not an event of private-guest-booking.{booking_id}",
    ),
    "roster": (
        "room_updated",
        {"channel": f"presence-{HOTEL}.desk"},
        "/type: 'room_updated' is not an event of presence-{hotel_slug}.{area}",
    ),
    "no such family": (
        "room_updated",
        {"family": "room"},
        "/: the contract has no family 'room'; it has guestBooking, otherBookings, ",
    ),
    "no such channel": (
        "room_updated",
        {"channel": f"{HOTEL}.news"},
        f"/: '{HOTEL}.news' is not a channel of the contract",
    ),
    "too long a channel": (
        "room_updated",
        {"channel": "staff-hotel-" + "1" * 200},
        f"/: 'staff-hotel-{'1' * 200}' is not a channel of the contract",
    ),
    "channel of another family": (
        "room_updated",
        {"family": "staffHotel", "channel": f"{HOTEL}.rooms"},
        f"/: '{HOTEL}.rooms' is not a channel of the family staffHotel",
    ),
    "channel of another hotel": (
        "room_updated",
        {"channel": "hotel-other.rooms"},
        "/meta/hotel_slug: 'hotel-killarney' differs from the channel's hotel 'hotel-other'",
    ),
}


@pytest.mark.parametrize("case", NO_PLACE)
def test_event_without_its_place_is_a_fault(case: str) -> None:
    """Where it would go must be known, and be where the contract lists it."""
    name, where, fault = NO_PLACE[case]
    (found,) = faults(name, **where)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    "hotel",
    [
        "",
        "a b",
        "a--b",
        "-a",
        "Zürich",
        "staff-x",
        "private-x",
        "guest-booking",
        "x" * 190,
        None,
        7,
    ],
)
def test_hotel_must_be_one(hotel: Any) -> None:
    """What no token names and no channel carries is not a hotel's slug."""
    assert faults(hotel=hotel) == ["/meta/hotel_slug: must be a hotel's slug"]


def test_contract_of_ones_own_may_be_given(tmp_path: Path) -> None:
    """Its names and its schemas; without a payload's schema any object passes."""
    own = load(tmp_path, yaml.safe_dump(SMALL))
    body = built("tidied", hotel="grand", payload={}, contract=own)
    assert (body["type"], body["category"]) == ("room_cleaned", "rooms")
    assert faults("tidied", contract=own) == ["/meta/hotel_slug: must be a hotel's slug"]
    (fault,) = faults("room_updated", hotel="grand", contract=own)
    assert fault == "/type: 'room_updated' is not an event of the contract"


class Status(str, Enum):  # noqa: UP042  the `str()` of a StrEnum is its value anyway
    """As Django's TextChoices: text that is a member."""

    READY = "READY_FOR_GUEST"


class Floor(int, Enum):
    """As Django's IntegerChoices."""

    FIRST = 1


def test_payload_is_made_of_jsons_own_types() -> None:
    """Members of enums are their values, tuples are lists, and nothing is shared."""
    nights = [1, 2.5, True, None]
    more = {"floor": Floor.FIRST, Status.READY: nights, "pair": (1, {"a": "b"}), "big": 2**64 - 1}
    payload = built(payload={**ROOM, "room_status": Status.READY, **more})["payload"]
    assert payload["room_status"] == "READY_FOR_GUEST"
    assert payload["READY_FOR_GUEST"] == nights
    assert payload["READY_FOR_GUEST"] is not nights
    assert payload["pair"] == [1, {"a": "b"}]
    assert {type(value) for value in (payload["room_status"], *payload)} == {str}
    assert type(payload["floor"]) is int
    assert payload["big"] == 2**64 - 1


def nested(depth: int) -> Any:
    """Return lists in one another."""
    return [] if depth == 1 else [nested(depth - 1)]


ENDLESS: dict[str, Any] = {}
ENDLESS["self"] = ENDLESS
NOT_JSON: dict[str, tuple[Any, str]] = {
    "time": (datetime.now(UTC), "is a datetime, which JSON has no form for"),
    "price": (Decimal("1.5"), "is a Decimal, which JSON has no form for"),
    "bytes": (b"x", "is a bytes, which JSON has no form for"),
    "infinity": (math.inf, "is not a finite number"),
    "integer": (2**64, "is an integer of more than 64 bits"),
    "half a character": ("\ud800", "is not encodable as UTF-8"),
    "number for a key": ({5: "x"}, "has a key that is no string of UTF-8"),
    "half a character for a key": ({"\ud800": 1}, "has a key that is no string of UTF-8"),
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_what_json_has_no_form_for_is_a_fault(case: str) -> None:
    """At its place, in payload and scope, and told once even where the schema asks for a type."""
    value, fault = NOT_JSON[case]
    assert faults(payload={**ROOM, "a/b": [{"c": value}]}) == [f"/payload/a~1b/0/c: {fault}"]
    assert faults(scope={"room_number": value}) == [f"/meta/scope/room_number: {fault}"]
    assert f"/payload/room_status: {fault}" in faults(payload={**ROOM, "room_status": value})


def test_depth_is_bounded() -> None:
    """What contains itself ends, and 64 containers in one another pass."""
    fault = "contains itself, or more than 64 objects and lists in one another"
    assert faults(payload={**ROOM, "x": ENDLESS}) == [f"/payload/x/self: {fault}"]
    built(payload={**ROOM, "x": nested(62)})
    assert faults(payload={**ROOM, "x": nested(63)}) == [f"/payload/x{'/0' * 62}: {fault}"]


@pytest.mark.parametrize("value", [None, "text", [1]])
def test_payload_and_scope_are_objects(value: Any) -> None:
    """Nothing else, and a scope that is not given is an empty one."""
    assert faults(payload=value) == ["/payload: must be an object"]
    assert built("rooms_updated", scope=None)["meta"]["scope"] == {}
    if value is not None:
        assert faults("rooms_updated", scope=value) == ["/meta/scope: must be an object"]


def test_every_fault_is_told_at_once() -> None:
    """Place, hotel, JSON, schema, scope and card data, each by its pointer and once."""
    payload = {**ROOM, "room_status": "DIRTY", "price": Decimal(1), "note": f"paid with {CARD}"}
    del payload["is_occupied"]
    told = faults(hotel="a b", payload=payload, scope=None)
    assert [fault.partition(":")[0] for fault in told] == [
        "/meta/hotel_slug",
        "/payload/price",
        "/payload",
        "/payload/room_status",
        "/meta/scope/room_number",
        "/payload/note",
    ]
    assert "1111" not in " ".join(told)
    told = faults("booking_confirmed", payload={}, scope={"x": CARD})
    assert told[0].startswith(AMBIGUOUS)
    assert [fault.partition(":")[0] for fault in told[1:]] == [
        *["/payload"] * 3,
        "/meta/scope/booking_id",
        "/meta/scope/x",
    ]


def test_card_data_is_a_fault_unless_the_contract_exempts_the_field(tmp_path: Path) -> None:
    """By value and by name; and where no family is known too."""
    assert faults(payload={**ROOM, "cvv": "123"}) == ["/payload/cvv: holds card data"]
    assert faults("nothing", payload={"n": CARD})[1:] == ["/payload/n: holds card data"]
    own = json.loads(json.dumps(SMALL))
    own["components"]["messages"]["cleaned"]["x-bellhop-not-cards"] = ["n"]
    given_ = {"hotel": "grand", "contract": load(tmp_path, yaml.safe_dump(own))}
    built("room_cleaned", payload={"n": CARD, "more": "text of 12345678901234567890"}, **given_)
    assert len(faults("room_cleaned", payload={"m": CARD}, **given_)) == 1


def test_size_is_bounded_as_the_server_bounds_it() -> None:
    """10,240 bytes of what the server writes: compact, and UTF-8 as it is."""
    room = len(orjson.dumps(built(payload={**ROOM, "note": ""})))
    note = "é" * ((MAX_EVENT_DATA - room) // 2) + "x" * ((MAX_EVENT_DATA - room) % 2)
    full = built(payload={**ROOM, "note": note})
    assert len(orjson.dumps(full)) == MAX_EVENT_DATA
    hold_accepted(f"{HOTEL}.rooms", full)
    (fault,) = faults(payload={**ROOM, "note": note + "x"})
    assert fault == "/: has 10241 bytes; the allowed maximum is 10240"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=8,
)


@given(more=st.dictionaries(st.text(), ANYTHING), hotel=st.text(max_size=20) | st.just(HOTEL))
def test_whatever_is_built_is_accepted(more: dict[str, Any], hotel: str) -> None:
    """An event is refused here, or good everywhere: the server never finds another fault."""
    try:
        body = event("room_updated", hotel=hotel, payload={**more, **ROOM}, scope=SCOPES)
    except InvalidEvent:
        return
    hold_accepted(f"{hotel}.rooms", body)


# --- the distribution of its own ---------------------------------------------------------------

BACKEND = """
import importlib, json, sys
sys.path += json.loads(sys.argv[1])
import channels_spec
for name in ("auth", "server", "tests"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(name + " is here")
try:
    channels_spec.event("room_updated", hotel="hotel-a", payload={}, scope={"room_number": "7"})
except channels_spec.InvalidEvent as error:
    print(len(error.faults))
print(json.dumps(channels_spec.event(**json.loads(sys.argv[2]))))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel of `bellhop-channels-spec` is unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(
        command, cwd=ROOT / "packaging" / "channels-spec", check=True, capture_output=True
    )
    (file,) = folder.glob("*.whl")
    zipfile.ZipFile(file).extractall(folder / "unpacked")
    return folder / "unpacked"


def installed(wheel: Path) -> PathDistribution:
    """Return the distribution in the folder."""
    (info,) = wheel.glob("*.dist-info")
    return PathDistribution(info)


def test_distribution_of_its_own_has_the_contract_and_nothing_else(wheel: Path) -> None:
    """The very files of channels_spec/, in the version and with the bounds of bellhop-server."""
    main = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    distribution_ = installed(wheel)
    assert distribution_.metadata["Name"] == "bellhop-channels-spec"
    assert distribution_.version == main["version"]
    assert distribution_.requires
    assert set(distribution_.requires) <= set(main["dependencies"])
    source = ROOT / "channels_spec"
    files = {file.relative_to(source) for file in source.rglob("*") if file.suffix != ".pyc"}
    packed = {file.relative_to(wheel / "channels_spec") for file in wheel.rglob("channels_spec/*")}
    assert packed == {file for file in files if "__pycache__" not in file.parts}
    for file in packed:
        assert (wheel / "channels_spec" / file).read_bytes() == (source / file).read_bytes()


def test_distribution_of_its_own_is_enough_for_a_backend(wheel: Path, tmp_path: Path) -> None:
    """With what it requires and nothing else an event is built, and the server takes it."""
    for requirement in installed(wheel).requires or ():
        name = requirement.partition(">")[0]
        for file in distribution(name).files or ():
            top = distribution(name).locate_file(file.parts[0])
            link = tmp_path / file.parts[0]
            if ".." not in file.parts and not link.exists():
                link.symlink_to(str(top))
    given_ = {"name": "room_updated", "hotel": HOTEL, "payload": ROOM, "scope": SCOPES}
    # -S: neither site-packages nor what is linked from there.
    ran = subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-c", BACKEND),
            json.dumps([str(wheel), str(tmp_path)]),
            json.dumps(given_),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    count, body = map(json.loads, ran.stdout.splitlines())
    assert count == len(ROOM)
    hold_accepted(f"{HOTEL}.rooms", body)

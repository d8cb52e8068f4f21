from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_spec.contract import ChannelFamily, EventSpec, ViewSpec
from channels_spec.views import PLAIN_VIEW, ViewedBodies, guest_views, project, viewed
from tests.oracle import is_of_payment, pruned
from tests.people import CONTRACT, match

ROOMS = match("grand.rooms").family
GUEST = match("guest-booking-7").family
CHECKED_IN = GUEST.events["booking_checked_in"]
CHAT = GUEST.events["chat_message_created"]
META = {"event_id": "e", "hotel_slug": "grand", "ts": "t"}

# Keys that are withheld, keys that only look like them, and ordinary ones.
KEYS = st.one_of(
    st.sampled_from(
        [
            *("payment", "payments", "payment_", "payment_method", "PAYMENT_Method", "Payment"),
            *("deposit", "deposits", "DepositPaid", "deposit_amount", "card_last4", "Card_Last4"),
            *("prepayment", "paymentx", "payments_", "card_last44", "no_deposit", "depos"),
            *("DEPOS\u0130T", "depo\u017fit", 'pay"ment', "pay\\ment", "payment\n", "\u212aey"),
            *("guest_name", "rooms", "booking_id", ""),
        ]
    ),
    st.text(max_size=6),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["payment", '"payment": 1', "deposit_paid"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=5)
BODIES = st.fixed_dictionaries(
    {"category": st.just("rooms"), "type": st.just("room_updated"), "payload": OBJECTS},
    optional={"more": JSON},
).flatmap(lambda body: OBJECTS.map(lambda scope: {**body, "meta": {**META, "scope": scope}}))


def keys_in(text: str) -> set[str]:
    """Return every key, at any depth, of a JSON text."""
    found: set[str] = set()

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found.update(key for key, _ in pairs)
        return dict(pairs)

    json.loads(text, object_pairs_hook=note)
    return found


def views_of(family: ChannelFamily, event: EventSpec | None, body: Any) -> dict[str, Any]:
    """Return each view's body by name, through `viewed` as the publisher calls it."""
    seen = viewed(family, event, body, json.dumps(body, ensure_ascii=False))
    return {name: seen.bodies[index] for name, index in seen.views}


@given(BODIES)
def test_staff_view_holds_no_payment_field_at_any_depth(body: dict[str, Any]) -> None:
    """What staff get is the body less every payment field, and finance gets all of it."""
    views = views_of(ROOMS, ROOMS.events["room_updated"], body)
    assert set(views) == {"staff", "finance"}
    assert views["finance"] is body
    assert not any(map(is_of_payment, keys_in(json.dumps(views["staff"]))))
    assert views["staff"] == pruned(body)


@given(OBJECTS)
def test_guest_views_hold_no_payment_field_inside_a_listed_one(room: dict[str, Any]) -> None:
    """A listed field may be an object: payment fields in it do not leave either."""
    body = {
        "category": "guest_booking",
        "type": "booking_checked_in",
        "payload": {"booking_id": "7", "room_number": room, "payment": {"paid": 5}},
        "meta": {**META, "scope": {"booking_id": room, "primary_email": "a@b.example"}},
    }
    views = views_of(GUEST, CHECKED_IN, body)
    expected = {
        "category": "guest_booking",
        "type": "booking_checked_in",
        "payload": {"booking_id": "7", "room_number": pruned(room)},
        "meta": {**META, "scope": {"booking_id": pruned(room)}},
    }
    assert views == {"guest": expected, "guest-status": expected}


@given(st.dictionaries(KEYS | st.sampled_from(CHAT.fields), JSON), OBJECTS)
def test_guest_views_hold_only_what_is_listed(
    payload: dict[str, Any], scope: dict[str, Any]
) -> None:
    """Nothing leaves on a guest channel that the contract does not list for the event."""
    body = {
        "category": "chat",
        "type": "chat_message_created",
        "payload": payload,
        "meta": {**META, "scope": scope, "ip": "10.0.0.1"},
        "internal": payload,
    }
    for seen in views_of(GUEST, CHAT, body).values():
        assert set(seen) == {"category", "type", "payload", "meta"}
        assert set(seen["payload"]) <= set(CHAT.fields)
        assert set(seen["meta"]) == {*META, "scope"}
        assert set(seen["meta"]["scope"]) <= {"booking_id", "room_number"}


@given(BODIES | OBJECTS)
def test_search_in_the_text_spares_the_walk_but_changes_nothing(body: dict[str, Any]) -> None:
    """With or without the quick look at the text, every view shows the same."""
    # The text of anything withheld: whoever finds this walks through every body.
    always = json.dumps({"payment": 1})
    quick = viewed(ROOMS, None, body, json.dumps(body, ensure_ascii=False))
    assert quick == viewed(ROOMS, None, body, always)


def test_views_share_one_body_when_nothing_is_withheld() -> None:
    """The usual event is encoded once: its views are one and the same object."""
    body = {"category": "rooms", "payload": {"room": {"beds": [1, {"size": 2}]}}, "meta": META}
    text = json.dumps(body)
    event = ROOMS.events["room_updated"]
    assert viewed(ROOMS, event, body, text) == ViewedBodies((body,), (("staff", 0), ("finance", 0)))
    # Not even where the text looks as if, because a string says "payment".
    body["note"] = '"payment'
    seen = viewed(ROOMS, event, body, '"payment')
    assert seen.bodies == (body,)
    assert seen.bodies[0] is body


def test_views_are_two_bodies_when_something_is_withheld() -> None:
    """Where they differ, each view names its own body; what is equal inside is not copied."""
    rooms = [{"number": 1}]
    body = {"rooms": rooms, "list": [{"deposit": 1, "x": 2}, 3], "payment": 4}
    seen = viewed(ROOMS, None, body, json.dumps(body))
    assert seen == ViewedBodies(
        ({"rooms": rooms, "list": [{"x": 2}, 3]}, body), (("staff", 0), ("finance", 1))
    )
    assert seen.bodies[0]["rooms"] is rooms


@pytest.mark.parametrize("spec", GUEST.events.values(), ids=lambda spec: spec.name)
def test_guest_event_goes_out_under_the_views_of_its_scope(spec: EventSpec) -> None:
    """Holders of one scope hear its events; holders of both hear all; nobody hears others."""
    body = {"category": "c", "type": "t", "payload": {}, "meta": META}
    own = "guest-chat" if spec.guest_scope == "CHAT" else "guest-status"
    assert set(views_of(GUEST, spec, body)) == {"guest", own}


def test_guest_views_are_named_after_the_contracts_view() -> None:
    """A contract of one's own may call its guest view something else."""
    assert guest_views("visitor", "CHAT") == ("visitor", "visitor-chat")
    assert guest_views("visitor", "STATUS_READ") == ("visitor", "visitor-status")


@pytest.mark.parametrize(
    "body, seen",
    [
        ({"booking_id": 7, "status": "x", "secret": 1}, {"booking_id": 7, "status": "x"}),
        ({"booking_id": 7, "payload": {"secret": 1}}, {"booking_id": 7}),
        ({"booking_id": 7, "meta": META, "payload": [1]}, {"booking_id": 7}),
        ({"booking": {"id": 7}, "action": "checked_in", "timestamp": "t"}, {}),
    ],
)
def test_guest_view_of_a_legacy_body_is_its_listed_fields(
    body: Mapping[str, object], seen: Mapping[str, object]
) -> None:
    """A body without an envelope shows a guest its listed fields at the top, and nothing else."""
    assert views_of(GUEST, CHECKED_IN, body) == {"guest": seen, "guest-status": seen}


def test_guest_view_leaves_out_what_meta_has_not() -> None:
    """Missing parts of meta stay missing, and a scope that is no object does not leave."""
    body = {"category": "c", "type": "t", "payload": {}, "meta": {"ts": "t", "scope": "staff"}}
    assert project(GUEST.views[0], CHECKED_IN, body) == {**body, "meta": {"ts": "t"}}


def test_listed_view_shows_no_field_of_an_event_that_the_contract_does_not_know() -> None:
    """Without a list nothing is listed."""
    body = {"category": "c", "type": "t", "payload": {"a": 1}, "meta": META}
    assert project(GUEST.views[0], None, body) == {**body, "payload": {}}
    seen = viewed(GUEST, None, body, json.dumps(body))
    assert seen.views == (("guest", 0),)


def test_view_that_withholds_nothing_shows_the_body_itself() -> None:
    """A view without rules costs nothing, and one that withholds may find nothing."""
    body = {"a": {"b": [1]}}
    assert project(ViewSpec("all"), None, body) is body
    assert project(ROOMS.views[0], None, body) is body


def test_every_view_that_the_contract_withholds_of_has_its_search() -> None:
    """The pattern of a view finds every key that it withholds, in any case, and no longer word."""
    for family in CONTRACT.families:
        withholds = family.views[0].withholds
        assert isinstance(withholds, re.Pattern)
        for key in ("payment", "PAYMENTS", "payment_x", "Deposit_y", "card_last4"):
            assert withholds.search(json.dumps({"a": {key: 1}}))
        for key in ("paymentx", "prepayment", "card_last44"):
            assert not withholds.search(json.dumps({"a": {key: 1}}))
    assert ROOMS.views[1].withholds is None
    assert PLAIN_VIEW == "plain"


def test_view_withholds_by_the_beginning_of_a_name_however_long_it_is() -> None:
    """What is not remembered of a key is looked at again each time, with the same result."""
    staff = ROOMS.views[0]
    long = "payment_" + "x" * 200
    body: dict[str, Any] = {"payload": {long: 1, "y" * 200: 2}, "meta": META}
    for _ in range(2):
        assert project(staff, None, body) == {"payload": {"y" * 200: 2}, "meta": META}

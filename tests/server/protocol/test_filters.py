"""A subscriber narrows what it hears."""

from __future__ import annotations

from typing import Any

import pytest

from auth.access import Grant
from server.protocol.effects import Regroup
from server.protocol.filters import MAX_VALUES, BadFilter, parse_scope
from tests.people import staff
from tests.server.protocol.talk import PUSHER, ROOMS, Talk, authenticated

GRANT = Grant(views=(("grand", "staff"),))
NARROW = Grant(views=GRANT.views, scope=(("room_number", frozenset({"101", "102"})),))


@pytest.fixture
def talk() -> Talk:
    """A staff member who hears the rooms."""
    talk = Talk(PUSHER)
    talk.open(staff("grand"))
    talk.hear(ROOMS)
    return talk


def answer(what: str, **data: Any) -> dict[str, Any]:
    """Return the answer to a filter."""
    return {"event": f"bellhop:filter:{what}", "data": {"channel": ROOMS, **data}}


def test_filter_narrows_and_null_widens_again(talk: Talk) -> None:
    """The subscriber moves to the group of its filter, and back; numbers and strings are alike."""
    scope = {"room_number": ["101", 102]}
    assert talk.say("bellhop:filter", {"channel": ROOMS, "scope": scope}) == [
        Regroup(ROOMS, NARROW),
        answer("ok"),
    ]
    assert talk.say("bellhop:filter", {"channel": ROOMS, "scope": None}) == [
        Regroup(ROOMS, GRANT),
        answer("ok"),
    ]


def test_filter_outlives_a_renewed_token(talk: Talk) -> None:
    """What the client asked for is its own affair: a fresh token changes the views alone."""
    talk.say("bellhop:filter", {"channel": ROOMS, "scope": {"room_number": ["101", "102"]}})
    same = staff("grand")
    assert talk.renew(same) == [authenticated(same.exp)]
    boss = staff({"slug": "grand", "roles": ["finance"]})
    grant = Grant(views=(("grand", "finance"),), scope=NARROW.scope)
    assert talk.renew(boss) == [authenticated(boss.exp), Regroup(ROOMS, grant)]


@pytest.mark.parametrize(
    "scope, error",
    [
        ("101", "scope must be an object of lists, or null"),
        ({"guest_name": ["x"]}, "only booking_id and room_number can be filtered by"),
        ({"room_number": "101"}, "room_number must be a list of at most 500 values"),
        ({"room_number": [1.5]}, "room_number must hold strings or whole numbers"),
        ({"room_number": [True]}, "room_number must hold strings or whole numbers"),
        ({"room_number": ["1"] * 501}, "room_number must be a list of at most 500 values"),
    ],
)
def test_filter_is_refused_with_its_reason(talk: Talk, scope: object, error: str) -> None:
    """A bad filter changes nothing."""
    frames = talk.say("bellhop:filter", {"channel": ROOMS, "scope": scope})
    assert frames == [answer("error", error=error)]


def test_filter_needs_a_subscription_to_a_contract_channel(talk: Talk) -> None:
    """Where there is nothing to narrow, that is what the client is told."""
    (told,) = talk.say("bellhop:filter", {"channel": "grand.booking", "scope": {}})
    assert told["data"]["error"] == "the channel is not subscribed to"
    talk.hear("lobby")
    (told,) = talk.say("bellhop:filter", {"channel": "lobby", "scope": {}})
    assert told["data"]["error"] == "the channel is not in the contract"
    talk.subscribe("grand.room-bookings")
    talk.unsubscribe("grand.room-bookings")
    (told,) = talk.say("bellhop:filter", {"channel": "grand.room-bookings", "scope": {}})
    assert told["data"]["error"] == "the channel is not subscribed to"


def test_scope_is_parsed_into_one_form() -> None:
    """Filters that mean the same share a fan-out group."""
    first = parse_scope({"room_number": [2, "1"], "booking_id": []})
    assert first == parse_scope({"booking_id": [], "room_number": ["1", "2"]})
    assert parse_scope({}) == parse_scope(None) == ()
    with pytest.raises(BadFilter):
        parse_scope({"room_number": [None] * MAX_VALUES})


@pytest.mark.parametrize(
    "values, wanted",
    [
        ((("room_number", "101"),), True),
        ((("booking_id", "B"), ("room_number", "102")), True),
        ((("room_number", "103"),), False),
        ((), False),
    ],
)
def test_grant_wants_what_is_in_its_scope(
    values: tuple[tuple[str, str], ...], *, wanted: bool
) -> None:
    """An event that does not say which room it is about is not about one of these."""
    assert NARROW.wants(values) is wanted
    assert GRANT.wants(values)

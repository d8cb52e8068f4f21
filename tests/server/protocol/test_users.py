"""A connection becomes a user's, who watches others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from auth.apps import Limits
from server.protocol.effects import SignedIn
from tests.people import APP, staff
from tests.server.protocol.talk import Talk, signed_in


def test_signed_in_user_is_told_to_the_session_with_its_watchlist() -> None:
    """In the order of the list, each once."""
    talk = Talk()
    talk.open()
    user = {"id": "7", "watchlist": ["a", "b", "a"]}
    assert talk.signin(user) == [signed_in(user), SignedIn("7", ("a", "b"))]
    assert talk.connection.user_id == "7"
    fewer = {"id": "7", "watchlist": ["b"]}
    assert talk.signin(fewer) == [signed_in(fewer), SignedIn("7", ("b",))]


@pytest.mark.parametrize("limit, count", [(100, 101), (2, 3), (0, 1)])
def test_watchlist_that_is_too_long_is_cut_and_the_client_told(limit: int, count: int) -> None:
    """The signin succeeds, the first ones are watched, and error 4302 follows."""
    talk = Talk(app=replace(APP, limits=Limits(watchlist=limit)))
    talk.open()
    ids = [f"u{number}" for number in range(count)]
    user: dict[str, Any] = {"id": "7", "watchlist": ids}
    reason = f"the watchlist has more than {limit} users; the first ones are watched"
    assert talk.signin(user) == [
        signed_in(user),
        {"event": "pusher:error", "data": {"code": 4302, "message": reason}},
        SignedIn("7", tuple(ids[:limit])),
    ]
    talk = Talk(app=talk.connection.app)
    user = {"id": "7", "watchlist": ids[:limit]}
    assert talk.signin(user) == [signed_in(user), SignedIn("7", tuple(ids[:limit]))]


def test_watchlist_of_a_client_that_has_only_a_token_is_its_own_word() -> None:
    """user_data beside a JWT is signed by nobody: it names the user and nothing else."""
    talk = Talk()
    talk.open()
    user = {"id": "staff-1", "watchlist": ["boss"]}
    assert talk.signin_by_token(staff("grand"), user) == [
        signed_in(user),
        SignedIn("staff-1", ()),
    ]


def test_user_is_whom_the_token_names_until_somebody_signs_in() -> None:
    """A backend that ends a user's connections means both."""
    talk = Talk()
    assert not talk.connection.is_of("staff-1")
    talk.open(staff("grand"))
    assert talk.connection.user_id == "staff-1"
    talk.signin({"id": "7"})
    assert talk.connection.user_id == "7"
    assert [talk.connection.is_of(each) for each in ("staff-1", "7", "", "8")] == [
        True,
        True,
        False,
        False,
    ]

"""When a connection ends because a token does."""

from __future__ import annotations

from typing import Any

import pytest

from channels_spec.pusher import CloseCode
from server.protocol.effects import Close
from server.protocol.expiry import LATEST_TICK_S, WARNING_S
from server.protocol.rules import Rules
from tests.people import CONTRACT, NOW, principal
from tests.server.protocol.talk import Talk

EXPIRED = Close(CloseCode.TOKEN_EXPIRED, "the token expires: reconnect with a fresh one")
QUIET = Rules(CONTRACT, ping_s=10_000)
"""The server does not ping within the test."""


def expiring(exp: float) -> dict[str, Any]:
    """Return the frame that says that the token ends soon."""
    return {"event": "bellhop:token_expiring", "data": {"exp": int(exp)}}


def ends_at(talk: Talk) -> float:
    """Return when the connection closes, the warning before it told."""
    connection = talk.connection
    told = connection.tick(connection.deadline())
    assert [effect for effect in told if isinstance(effect, Close)] == []
    return connection.deadline()


@pytest.mark.parametrize(
    "life, spread, closes_after",
    [(3600, 0.0, 3600), (3600, 0.5, 3585), (3600, 0.999, 3570.03), (40, 0.5, 30), (4, 1.0, 2)],
)
def test_connection_closes_before_its_token_ends(
    life: float, spread: float, closes_after: float
) -> None:
    """Spread over the seconds before `exp`, never after; of a short life over half of it.

    A tick may come late by `LATEST_TICK_S`, so all of that is so much earlier.
    """
    talk = Talk(QUIET, spread=spread)
    talk.open(principal(exp=NOW + life))
    closes_after -= LATEST_TICK_S
    assert ends_at(talk) == pytest.approx(NOW + closes_after)
    assert talk.tick(closes_after - 0.01) == []
    assert talk.tick(0.02) == [EXPIRED]


def test_renewal_moves_the_end() -> None:
    """The connection lives as long as the token that it was renewed with, longer or shorter."""
    talk = Talk(QUIET)
    talk.open(principal(exp=NOW + 100))
    talk.renew(principal(exp=NOW + 1000))
    assert ends_at(talk) == NOW + 1000 - LATEST_TICK_S
    talk.renew(principal(exp=NOW + 50))
    assert ends_at(talk) == NOW + 50 - LATEST_TICK_S
    assert talk.tick(50) == [EXPIRED]


def test_signed_subscription_ends_with_the_token_behind_it() -> None:
    """Claims inside channel_data end like any token's; a renewal of another does not save them."""
    talk = Talk(QUIET)
    talk.open(principal(exp=NOW + 1000))
    for life in (300, 200, 400):
        claims = principal(exp=NOW + life, hotels=["grand", f"h{life}"]).claims()
        talk.subscribe_signed(f"private-h{life}.rooms", {"user_id": "9", "bellhop": claims})
    assert talk.connection.deadline() == NOW + 200 - LATEST_TICK_S
    talk.renew(principal(exp=NOW + 5000))
    assert talk.connection.deadline() == NOW + 200 - LATEST_TICK_S
    assert talk.tick(200) == [EXPIRED]


def test_signed_subscription_without_a_token_lasts_as_long_as_the_socket() -> None:
    """A backend's own signature has no end."""
    talk = Talk(QUIET)
    talk.open()
    talk.subscribe_signed("private-grand.rooms")
    talk.tick(10)
    assert talk.connection.deadline() == NOW + 10_000


# --- the warning before it -----------------------------------------------------------------------


def test_client_is_told_a_minute_before_its_token_ends() -> None:
    """Once, with the token's end: time enough to bring a fresh one."""
    talk = Talk(QUIET)
    talk.open(principal(exp=NOW + 300))
    assert talk.connection.deadline() == NOW + 300 - WARNING_S
    assert talk.tick(300 - WARNING_S - 0.01) == []
    assert talk.tick(0.01) == [expiring(NOW + 300)]
    assert talk.tick(1) == []
    assert talk.connection.deadline() == NOW + 300 - LATEST_TICK_S


def test_renewal_is_warned_of_its_own_end() -> None:
    """The old token's warning is not told any more, and the fresh one's is."""
    talk = Talk(QUIET)
    talk.open(principal(exp=NOW + 300))
    talk.renew(principal(exp=NOW + 900))
    assert talk.tick(300 - WARNING_S) == []
    assert talk.tick(600) == [expiring(NOW + 900)]


def test_token_that_ends_within_the_minute_is_warned_of_at_once() -> None:
    """The next tick is due already."""
    talk = Talk(QUIET)
    talk.open(principal(exp=NOW + 20))
    assert talk.connection.deadline() < NOW
    assert talk.tick() == [expiring(NOW + 20)]


def test_token_in_its_last_moments_opens_nothing() -> None:
    """A tick may come late: who comes then hears nothing at all."""
    talk = Talk(QUIET)
    assert talk.open(principal(exp=NOW + LATEST_TICK_S))[1:] == [EXPIRED]
    assert talk.connection.principal is None or talk.connection.channels == []

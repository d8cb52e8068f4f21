from __future__ import annotations

from itertools import product

import pytest

from auth.access import Grant
from server.protocol.subscription import TRANSITIONS, Input, Member, State, Subscription

# State: what it becomes on SUBSCRIBE, JOINED, UNSUBSCRIBE.
TABLE = {
    State.ABSENT: (State.JOINING, State.ABSENT, State.ABSENT),
    State.JOINING: (State.JOINING, State.SUBSCRIBED, State.LEAVING),
    State.SUBSCRIBED: (State.SUBSCRIBED, State.SUBSCRIBED, State.ABSENT),
    State.LEAVING: (State.JOINING, State.ABSENT, State.LEAVING),
}


@pytest.mark.parametrize("state, happened", list(product(State, Input)))
def test_subscription_moves_along_the_table(state: State, happened: Input) -> None:
    """Every pair of state and input has one outcome; a pair without a row changes nothing."""
    subscription = Subscription(Grant(), by_principal=True)
    subscription.state = state
    expected = TABLE[state][list(Input).index(happened)]
    assert subscription.apply(happened) is expected
    assert subscription.state is expected
    assert ((state, happened) in TRANSITIONS) is (expected is not state)


def test_subscription_begins_absent() -> None:
    """A new row is in no fan-out until it is asked for."""
    subscription = Subscription(Grant(no_hotel="plain"), by_principal=False)
    assert (subscription.state, subscription.grant, subscription.by_principal) == (
        State.ABSENT,
        Grant(no_hotel="plain"),
        False,
    )
    assert subscription.member is None


def test_member_is_its_own_roster() -> None:
    """A presence subscriber finds itself in ids, hash and count, as pusher-js demands."""
    assert Member("12", {"name": "Zoë"}).roster() == {
        "presence": {"ids": ["12"], "hash": {"12": {"name": "Zoë"}}, "count": 1}
    }

from __future__ import annotations

from itertools import product

import pytest

from auth.access import Grant
from server.protocol.presence import Member
from server.protocol.subscription import TRANSITIONS, Input, State, Subscription

# State: what it becomes on ASK, SUBSCRIBE, JOINED, ENTERED, RECALL, UNSUBSCRIBE.
TABLE = {
    State.ABSENT: (State.ASKING, State.JOINING, *[State.ABSENT] * 4),
    State.ASKING: (State.ASKING, State.JOINING, *[State.ASKING] * 3, State.ABSENT),
    State.JOINING: (*[State.JOINING] * 2, State.ENTERING, *[State.JOINING] * 2, State.ABSENT),
    State.ENTERING: (*[State.ENTERING] * 3, State.SUBSCRIBED, State.ENTERING, State.ABSENT),
    State.SUBSCRIBED: (*[State.SUBSCRIBED] * 4, State.RETURNING, State.ABSENT),
    State.RETURNING: (*[State.RETURNING] * 3, State.SUBSCRIBED, State.RETURNING, State.ABSENT),
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
    member = Member("12", b"null")
    subscription = Subscription(Grant(no_hotel="plain"), by_principal=False, member=member)
    assert (subscription.state, subscription.grant, subscription.by_principal) == (
        State.ABSENT,
        Grant(no_hotel="plain"),
        False,
    )
    assert subscription.member is member
    assert Subscription(Grant(), by_principal=True).member is None

"""The subscription table: the life of one (connection, channel).

Joining takes time, because a subscription is confirmed only once this node's own subscription to
the channel on the broker is; the client may change its mind meanwhile, more than once.

    absent ---subscribe---> joining ---joined---> subscribed
      ^                      |    ^                  |
      |                 unsubscribe subscribe   unsubscribe, refused
      |                      v    |                  |
      +-------joined------ leaving                   |
      +----------------------------------------------+

A pair that is not in the table means "nothing changes".
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from auth.access import Grant


class State(Enum):
    """Where a subscription stands."""

    ABSENT = auto()
    JOINING = auto()
    SUBSCRIBED = auto()
    LEAVING = auto()


class Input(Enum):
    """What happens to a subscription."""

    SUBSCRIBE = auto()
    """The client asked for it, and may have it."""
    JOINED = auto()
    """This node listens to the channel."""
    UNSUBSCRIBE = auto()
    """The client left, or lost the right."""


TRANSITIONS: Final = {
    (State.ABSENT, Input.SUBSCRIBE): State.JOINING,
    (State.JOINING, Input.JOINED): State.SUBSCRIBED,
    (State.JOINING, Input.UNSUBSCRIBE): State.LEAVING,
    (State.LEAVING, Input.SUBSCRIBE): State.JOINING,
    (State.LEAVING, Input.JOINED): State.ABSENT,
    (State.SUBSCRIBED, Input.UNSUBSCRIBE): State.ABSENT,
}


class Subscription:
    """One row of a connection's subscription table that is not absent."""

    __slots__ = ("by_principal", "grant", "member", "state")

    def __init__(self, grant: Grant, *, by_principal: bool, member: Member | None = None) -> None:
        self.state = State.ABSENT
        self.grant = grant
        self.by_principal = by_principal
        """Whether the right to it is the connection's principal's, so that it changes with it."""
        self.member = member

    def apply(self, happened: Input) -> State:
        """Move along the table and return the new state."""
        self.state = TRANSITIONS.get((self.state, happened), self.state)
        return self.state


class Member:
    """What a presence channel knows of a subscriber."""

    __slots__ = ("user_id", "user_info")

    def __init__(self, user_id: str, user_info: object | None) -> None:
        self.user_id = user_id
        self.user_info = user_info

    def roster(self) -> dict[str, object]:
        """Return the presence data of a roster that holds this member alone."""
        presence = {"ids": [self.user_id], "hash": {self.user_id: self.user_info}, "count": 1}
        return {"presence": presence}

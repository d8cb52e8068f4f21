"""The subscription table: the life of one (connection, channel).

Getting in takes two steps, each a round trip to the broker: *joining* ends when this node listens
to the channel, so that no event is missed from then on; *entering* ends when the broker has counted
the subscriber and told what it needs to know (roster, cached event). Events that come meanwhile are
held back by the fan-out. The client may change its mind at any time.

    absent ---subscribe---> joining ---joined---> entering ---entered---> subscribed
      ^  |                   ^ |                      |                        |
      |  +--ask--> asking ---+ |                      |                        |
      |              |  allowed|                      |                        |
      +--unsubscribe-+---------+----------------------+------------------------+

Where the contract names the callback authorizer, the backend is *asked* first. A pair that is not
in the table means "nothing changes".
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from auth.access import Grant
from auth.principal import Principal
from server.protocol.commands import Subscribe
from server.protocol.presence import Member


class State(Enum):
    """Where a subscription stands."""

    ABSENT = auto()
    ASKING = auto()
    JOINING = auto()
    ENTERING = auto()
    SUBSCRIBED = auto()


class Input(Enum):
    """What happens to a subscription."""

    ASK = auto()
    """The client asked for it, and the backend says whether it may have it."""
    SUBSCRIBE = auto()
    """The client asked for it, and may have it."""
    JOINED = auto()
    """This node listens to the channel."""
    ENTERED = auto()
    """The broker has let it in."""
    UNSUBSCRIBE = auto()
    """The client left, or lost the right."""


TRANSITIONS: Final = {
    (State.ABSENT, Input.ASK): State.ASKING,
    (State.ABSENT, Input.SUBSCRIBE): State.JOINING,
    (State.ASKING, Input.SUBSCRIBE): State.JOINING,
    (State.ASKING, Input.UNSUBSCRIBE): State.ABSENT,
    (State.JOINING, Input.JOINED): State.ENTERING,
    (State.ENTERING, Input.ENTERED): State.SUBSCRIBED,
    (State.JOINING, Input.UNSUBSCRIBE): State.ABSENT,
    (State.ENTERING, Input.UNSUBSCRIBE): State.ABSENT,
    (State.SUBSCRIBED, Input.UNSUBSCRIBE): State.ABSENT,
}


class Subscription:
    """One row of a connection's subscription table that is not absent.

    What the broker answers is for one such object: a channel that was left and asked for again has
    another.
    """

    __slots__ = ("asks", "by_principal", "grant", "member", "signed", "state")

    def __init__(
        self,
        grant: Grant,
        *,
        by_principal: bool,
        member: Member | None = None,
        signed: tuple[Principal, Subscribe] | None = None,
        asks: Principal | None = None,
    ) -> None:
        self.state = State.ABSENT
        self.grant = grant
        self.by_principal = by_principal
        """Whether the right to it is the connection's principal's, so that it changes with it."""
        self.member = member
        self.signed = signed
        """Whose right a signature says it is, and the subscribe that carried it."""
        self.asks = asks
        """Whom the backend is asked about; ``None``: it is not asked."""

    def apply(self, happened: Input) -> State:
        """Move along the table and return the new state."""
        self.state = TRANSITIONS.get((self.state, happened), self.state)
        return self.state

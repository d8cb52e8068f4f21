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

Who a client is may be known only after it is in; then it is *returning*, still in, until it is told
what it missed before: subscribed ---recall---> returning ---entered---> subscribed.

Where the contract names the callback authorizer, the backend is *asked* first. A pair that is not
in the table means "nothing changes".
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Final

from auth.access import Grant
from auth.principal import Principal
from server.protocol.commands import Subscribe
from server.protocol.presence import Entered, Member, Past


class State(Enum):
    """Where a subscription stands."""

    ABSENT = auto()
    ASKING = auto()
    JOINING = auto()
    ENTERING = auto()
    SUBSCRIBED = auto()
    RETURNING = auto()


class Input(Enum):
    """What happens to a subscription."""

    ASK = auto()
    """The client asked for it, and the backend says whether it may have it."""
    SUBSCRIBE = auto()
    """The client asked for it, and may have it."""
    JOINED = auto()
    """This node listens to the channel."""
    ENTERED = auto()
    """The broker has let it in, and what it missed is known."""
    RECALL = auto()
    """The client turns out to be somebody who may have missed something."""
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
    (State.SUBSCRIBED, Input.RECALL): State.RETURNING,
    (State.RETURNING, Input.ENTERED): State.SUBSCRIBED,
    (State.RETURNING, Input.UNSUBSCRIBE): State.ABSENT,
}


class Subscription:
    """One row of a connection's subscription table that is not absent.

    What the broker answers is for one such object: a channel that was left and asked for again has
    another.
    """

    __slots__ = (
        "asks",
        "by_principal",
        "entered",
        "got_cached",
        "grant",
        "member",
        "signed",
        "state",
        "told_ms",
    )

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
        self.entered = Entered()
        """Where it entered the channel; neither roster nor cached event is kept."""
        self.told_ms: int | None = None
        """From when on it was told what it had missed; 0: from where the client itself named."""
        self.got_cached = False
        """Whether it was sent the channel's cached event."""

    @property
    def is_in(self) -> bool:
        """Whether it was confirmed."""
        return self.state in {State.SUBSCRIBED, State.RETURNING}

    def told(self, past: Past) -> None:
        """Note what the client is told that it missed."""
        if past.since_ms is not None:
            self.told_ms = past.since_ms

    def enter(self, entered: Entered, past: Past, *, got_cached: bool) -> None:
        """Note where it entered the channel, and what it was told."""
        self.entered = replace(entered, roster=(), cached=None) if entered.is_large else entered
        self.got_cached = got_cached
        self.told(past)

    def apply(self, happened: Input) -> State:
        """Move along the table and return the new state."""
        self.state = TRANSITIONS.get((self.state, happened), self.state)
        return self.state

"""Effects: what the connection's core asks its session to do, in order."""

from __future__ import annotations

from dataclasses import dataclass

from auth.access import Grant
from channels_spec.pusher import CloseCode
from server.protocol.commands import Resume
from server.protocol.presence import Entered
from server.protocol.subscription import Subscription


@dataclass(frozen=True, slots=True)
class Send:
    """Send one frame (encoded text) to the client."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class AskBackend:
    """Ask the backend about a subscription, then call `Connection.authorized`."""

    channel: str
    subscription: Subscription


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the client that it may not have a channel."""

    channel: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Replay:
    """Send what the client missed of a channel, in order and however much that is."""

    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """Join the fan-out; once this node listens to the channel, call `Connection.joined`."""

    channel: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class Enter:
    """Have the broker let the subscriber in, then call `Connection.entered` or `refused`."""

    channel: str
    subscription: Subscription
    after: Resume | None = None
    """From where on the client itself wants what it missed."""


@dataclass(frozen=True, slots=True)
class Admit:
    """Let the subscriber hear the channel: first what was held back since the broker let it in."""

    channel: str
    entered: Entered


@dataclass(frozen=True, slots=True)
class Recall:
    """Find out what the client, now that it is known, missed on channels before it entered them.

    Hold their events back, then call `Connection.recalled` for each.
    """

    identity: str
    channels: tuple[tuple[str, Subscription], ...]


@dataclass(frozen=True, slots=True)
class MissedCache:
    """A cache channel had no event for a subscriber: the backend may want to know."""

    channel: str


@dataclass(frozen=True, slots=True)
class Relay:
    """Send a client's event to the channel's other subscribers, on every node."""

    channel: str
    event: str
    data: str
    user_id: str | None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The connection is a user's now, who watches others."""

    user_id: str
    watchlist: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Regroup:
    """Move a subscriber to the fan-out group of another grant."""

    channel: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave the fan-out."""

    channel: str


@dataclass(frozen=True, slots=True)
class VerifyToken:
    """Verify a JWT, then call `Connection.token_verified` or `Connection.token_refused`."""

    token: str
    user_data: str | None
    """The signin's ``user_data``; ``None`` for `bellhop:auth`."""


@dataclass(frozen=True, slots=True)
class Close:
    """Send the error frame, then close with the code; nothing follows."""

    code: CloseCode
    reason: str


Effect = (
    Send
    | Refuse
    | Replay
    | AskBackend
    | Join
    | Enter
    | Admit
    | Recall
    | MissedCache
    | Relay
    | SignedIn
    | Regroup
    | Leave
    | VerifyToken
    | Close
)

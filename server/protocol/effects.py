"""Effects: what the connection's core asks its session to do, in order."""

from __future__ import annotations

from dataclasses import dataclass

from auth.access import Grant
from channels_spec.pusher import CloseCode


@dataclass(frozen=True, slots=True)
class Send:
    """Send one frame (encoded text) to the client."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Join:
    """Join the fan-out; once this node listens to the channel, call `Connection.joined`."""

    channel: str
    grant: Grant


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


Effect = Send | Join | Regroup | Leave | VerifyToken | Close

"""What a peer can do wrong on a connection."""

from __future__ import annotations

from channels_spec.pusher import ErrorCode


class ProtocolError(Exception):
    """The peer broke the protocol; the connection goes on and the peer is told.

    ``channel`` is set where the client can bind the error to a channel.
    """

    def __init__(self, reason: str, code: ErrorCode, channel: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.channel = channel


class SubscriptionRefused(Exception):
    """One subscription is refused; the connection goes on."""

    def __init__(self, channel: str, status: int, reason: str) -> None:
        super().__init__(reason)
        self.channel = channel
        self.status = status
        self.reason = reason

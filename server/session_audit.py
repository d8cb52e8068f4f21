"""What a session tells the audit: who came, what they may hear from when on, how it ended."""

from __future__ import annotations

from typing import Final, Protocol

from auth.access import Grant
from channels_spec.pusher import CloseCode
from server.audit import Audit, told_grant
from server.protocol.effects import Refuse
from server.protocol.subscription import Subscription


class Client(Protocol):
    """A session, as the audit sees it."""

    @property
    def app_id(self) -> str:
        """The app that it is connected to."""

    @property
    def socket_id(self) -> str:
        """Its socket id."""

    @property
    def user_id(self) -> str | None:
        """The signed-in user, or whom the token names."""


class SessionAudit:
    """The audit of one node's sessions."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def opened(self, client: Client, way: str) -> None:
        """Note that a client was let in at the door; ``way``: how it said who it is."""
        self._note("connect", client, outcome="accepted", entrance=way)

    def authenticated(self, client: Client, way: str) -> None:
        """Note that it is known who an open connection is."""
        self._note("authenticate", client, outcome="accepted", entrance=way)

    def token_refused(self, client: Client, reason: str) -> None:
        """Note a token that an open connection brought in vain."""
        status = CloseCode.UNAUTHORIZED
        self._audit.refused("token", status, reason, known=False, **_whose(client))

    def subscribed(self, client: Client, channel: str, subscription: Subscription) -> None:
        """Note that a client hears a channel from now on."""
        fields = _whose(client)
        if subscription.signed is not None:
            # The signature says whose right it is, where nobody has signed in.
            fields["sub"] = subscription.signed[0].sub
        views = told_grant(subscription.grant)
        self._audit.note("subscribe", channel=channel, outcome="accepted", views=views, **fields)

    def regrouped(self, client: Client, channel: str, grant: Grant) -> None:
        """Note that what it hears of a channel is another part of it."""
        self._note("change", client, channel=channel, views=told_grant(grant))

    def left(self, client: Client, channel: str) -> None:
        """Note that it does not hear a channel any more."""
        self._note("leave", client, channel=channel)

    def refused(self, client: Client, refuse: Refuse) -> None:
        """Note that it may not have a channel."""
        self._audit.refused(
            "subscribe",
            refuse.status,
            refuse.reason,
            known=client.user_id is not None,
            channel=refuse.channel,
            **_whose(client),
        )

    def ended(self, client: Client, code: int | None, cause: str, by: str) -> None:
        """Note the end of a connection, and by it of all its subscriptions."""
        self._note("disconnect", client, status=code, reason=cause, by=by)

    def _note(
        self, kind: str, client: Client, **fields: str | int | dict[str, object] | None
    ) -> None:
        self._audit.note(kind, **_whose(client), **fields)


def _whose(client: Client) -> dict[str, str]:
    return {"app": client.app_id, "socket_id": client.socket_id, "sub": client.user_id or ""}


SILENT: Final = SessionAudit(Audit())
"""Keeps nothing."""

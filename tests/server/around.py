"""What stands around a session where nobody else is on the broker's side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from auth.apps import App, WebhookKind
from server.asking import Asking, Client
from server.channels import Key
from server.hub import Hub
from server.presence import Arrival, Presence
from server.protocol.effects import Relay
from server.protocol.presence import Entered, Member, Past
from server.protocol.rules import Rules
from server.resuming import Resuming
from server.surroundings import Relayer, Surroundings, Verifier
from server.users import Users
from server.wheel import Wheel
from tests.people import NOW


class OpenDoors:
    """Stands for the broker's entrance: whoever asks is in."""

    def enter(self, key: Key, socket_id: str, member: Member | None, arrival: Arrival) -> None:
        del key, socket_id, member
        arrival.entered(Entered())

    def leave(self, key: Key, socket_id: str) -> None:
        """Nobody counts."""


class NoPast:
    """Stands for the resumption of clients: nobody has been here before."""

    def enter(self, asking: Asking) -> None:
        asking.told.told(Past())

    def recall(self, askings: Sequence[Asking], identity: str) -> None:
        del identity
        for asking in askings:
            asking.told.told(Past())

    def proved(self, client: Client) -> None:
        """Nobody needs a proof."""

    def left(self, client: Client, channel: str) -> None:
        """Nobody remembers."""

    def ended(self, client: Client, channels: Iterable[str], *, goodbye: bool) -> None:
        """Nobody comes back."""


class Nobody:
    """Stands for the signed-in users, and for who hears client events: nobody asks for them."""

    def signed_in(self, app_id: str, user_id: str, socket_id: str) -> None:
        """Nobody is told."""

    def left(self, app_id: str, user_id: str, socket_id: str) -> None:
        """Nor of this."""

    def relay(self, app: App, sender: str, relay: Relay) -> None:
        """Nobody hears it."""


def tell_nobody(app_id: str, kind: WebhookKind, channel: str, **fields: str | int | None) -> None:
    """Have no backend."""
    del app_id, kind, channel, fields


def surroundings(
    hub: Hub, verifier: Verifier, rules: Rules, relayer: Relayer | None = None
) -> Surroundings:
    """Return surroundings in which the clock stands still."""
    nobody = Nobody()
    return Surroundings(
        hub=hub,
        presence=cast("Presence", OpenDoors()),
        resuming=cast("Resuming", NoPast()),
        users=cast("Users", nobody),
        relayer=relayer or nobody,
        notify=tell_nobody,
        wheel=Wheel(lambda: NOW),
        verifier=verifier,
        rules=rules,
        clock=lambda: NOW,
    )

"""What a node tells of itself on `/metrics`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.audit import Audit
from server.hub import Hub
from server.ingress import Ingress
from server.jwks import JwksKeys
from server.metrics import NodeCollector
from server.publisher import Publisher
from server.rejected import Rejected
from server.resuming import Resuming
from server.transports.admission import Admission
from server.walls import Walls
from server.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Sources:
    """The parts of a node that have figures."""

    hub: Hub
    publisher: Publisher
    ingress: Ingress
    rejected: Rejected
    resuming: Resuming
    admission: Admission
    webhooks: Webhooks
    walls: Walls
    audit: Audit
    jwks: JwksKeys | None
    unready: Callable[[], str | None]
    """Why clients should not come, if so."""


def collector(of: Sources) -> NodeCollector:
    """Return what reads the figures whenever they are asked for."""
    hub, publisher, jwks = of.hub, of.publisher, of.jwks
    age = {} if jwks is None else {"jwks_age_seconds": (_AGE, jwks.age_s)}
    fetches = (
        {} if jwks is None else {"jwks_fetches": (_FETCHES, ("outcome",), lambda: jwks.counts)}
    )
    return NodeCollector(
        gauges={
            **age,
            "connections": ("Open connections.", lambda: len(hub.sessions)),
            "handshakes_waiting": (
                "Handshakes that wait for their turn.",
                lambda: of.admission.waiting,
            ),
            "channels": ("Channels with subscribers here.", lambda: hub.channel_count),
            "ready": ("1 while clients may come.", lambda: float(of.unready() is None)),
        },
        counters={
            "deliveries": ("Frames offered to subscribers.", lambda: hub.delivered),
            "replayed": (
                "Frames that returning subscribers had missed.",
                lambda: of.resuming.replayed,
            ),
            "gaps": (
                "Returning subscribers that were told that something may be missing.",
                lambda: of.resuming.gaps,
            ),
            "ingress_forgotten": (
                "Redis publishes of no known outcome that a node let go for want of room.",
                lambda: of.ingress.forgotten,
            ),
            "handshakes_turned_away": (
                "Handshakes that found too many waiting.",
                lambda: of.admission.turned_away,
            ),
            "slow_consumers": ("Connections closed as slow.", lambda: hub.slow_consumers),
        },
        labelled={
            **fetches,
            "events": ("Events by outcome.", ("outcome",), lambda: publisher.published),
            "contract_faults": (
                "Faults in events that were let through.",
                ("hotel", "event", "fault"),
                lambda: publisher.violations,
            ),
            "webhooks": (
                "Webhook events by what became of them.",
                ("outcome",),
                lambda: of.webhooks.counts,
            ),
            "walls": (
                "What was refused for being too much, by what it was.",
                ("wall",),
                lambda: of.walls.counts,
            ),
            "audit": (
                "Rows of the audit by what became of them.",
                ("outcome",),
                lambda: of.audit.counts,
            ),
            "rejected": ("Refused Redis publishes.", ("status",), lambda: of.rejected.counts),
        },
    )


_AGE = "Age of the copy of the token issuer's keys."
_FETCHES = "Fetches of the token issuer's keys by outcome."

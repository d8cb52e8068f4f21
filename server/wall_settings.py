"""Settings of the walls, the proxies that are believed, the callback authorizer, the audit."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from auth.apps import require_webhook_url
from server.authorizer import MAX_CACHE_S
from server.transports.admission import AdmissionLimits
from server.transports.proxies import UNIX
from server.walls import Rate, WallLimits

PerSecond = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Burst = Annotated[int, Field(ge=1)]


def _url(value: str) -> str:
    require_webhook_url(value)
    return value


def _proxy(value: str) -> str:
    if value == UNIX:
        return value
    try:
        network = ip_network(value)
    except ValueError as error:
        raise ValueError(
            f"{error}; expected addresses, networks such as 10.0.0.0/8, or unix"
        ) from None
    if network.prefixlen == 0:
        raise ValueError(f"{value} believes everybody: name the proxies")
    return value


Proxy = Annotated[str, AfterValidator(_proxy)]


class AuthorizerSettings(BaseModel):
    """Who is asked where the contract names the callback authorizer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(_url)] | None = None
    deadline_s: Annotated[float, Field(gt=0, le=60)] = 3
    cache_s: Annotated[float, Field(ge=0, le=MAX_CACHE_S)] = 5


class AuditSettings(BaseModel):
    """How much of who did what is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: Annotated[int, Field(ge=0, le=10_000_000)] = 100_000
    publishes: bool = True


class WallSettings(BaseModel):
    """How much one address, user, connection and hotel may ask for, on each node."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    handshakes_per_s: PerSecond = 100
    handshakes_burst: Burst = 2_000
    failures_per_s: PerSecond = 20
    failures_burst: Burst = 1_000
    user_handshakes_per_s: PerSecond = 20
    user_handshakes_burst: Burst = 200
    user_connections: Annotated[int, Field(ge=0)] = 100
    messages_per_s: PerSecond = 50
    messages_burst: Burst = 200
    publishes_per_s: PerSecond = 1_000
    publishes_burst: Burst = 100_000
    waiting_handshakes: Annotated[int, Field(ge=0)] = 20_000
    handshakes_turn_ms: Annotated[float, Field(gt=0, le=1_000)] = 5

    def limits(self) -> WallLimits:
        """Return the limits as the walls take them."""
        return WallLimits(
            handshakes=Rate(self.handshakes_per_s, self.handshakes_burst),
            failures=Rate(self.failures_per_s, self.failures_burst),
            user_handshakes=Rate(self.user_handshakes_per_s, self.user_handshakes_burst),
            user_connections=self.user_connections,
            messages=Rate(self.messages_per_s, self.messages_burst),
            publishes=Rate(self.publishes_per_s, self.publishes_burst),
        )

    def admission(self) -> AdmissionLimits:
        """Return how handshakes are answered, as the admission takes it."""
        return AdmissionLimits(self.waiting_handshakes, self.handshakes_turn_ms / 1_000)

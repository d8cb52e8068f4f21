"""What the installation decides for all connections."""

from __future__ import annotations

from dataclasses import dataclass, field

from auth.revocations import Revocations
from channels_spec.contract import Contract


@dataclass(frozen=True, slots=True)
class Rules:
    """The installation's decisions; times in seconds."""

    contract: Contract
    serves_unlisted: bool = False
    """Channels outside the contract follow plain Pusher rules (else they are refused)."""
    require_token: bool = True
    auth_timeout_s: float = 10.0
    activity_timeout_s: int = 30
    ping_s: float = 20.0
    pong_timeout_s: float = 30.0
    expiry_spread_s: float = 30.0
    revocations: Revocations = field(default_factory=Revocations)
    """The node's, which change while connections live."""

"""Who speaks in tests that need no server: principals, an app, and the hotel contract."""

from __future__ import annotations

from typing import Any, Final

from auth.apps import App
from auth.principal import Principal, principal_from_claims
from channels_spec.contract import ChannelMatch
from channels_spec.reading import load_contract

NOW: Final = 1_700_000_000.0
APP: Final = App("1", "app-key", "app-secret")
CONTRACT: Final = load_contract()


def principal(sub: str = "staff-1", **claims: Any) -> Principal:
    """Return the principal of a token that is good for an hour."""
    return principal_from_claims({"sub": sub, "exp": NOW + 3600, **claims})


def staff(*hotels: Any, **claims: Any) -> Principal:
    """Return a staff member of hotels, each a slug or an entry with `slug`, `id`, `roles`."""
    return principal(hotels=list(hotels), **claims)


def guest(booking: str, *scopes: str, hotel: str = "grand", **claims: Any) -> Principal:
    """Return the guest of one booking."""
    return principal(
        f"guest-{booking}",
        kind="guest",
        hotels=[hotel],
        booking_id=booking,
        scope=list(scopes),
        **claims,
    )


def service(*hotels: Any, **claims: Any) -> Principal:
    """Return an operator of these hotels; without any, of all."""
    return principal("operator", kind="service", hotels=list(hotels) or "*", **claims)


def match(channel: str) -> ChannelMatch:
    """Return a channel's match in the hotel contract."""
    found = CONTRACT.match(channel)
    assert found is not None, channel
    return found

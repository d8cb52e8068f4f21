"""Identity: which device a connection is of, so that a later one can take up what it missed."""

from __future__ import annotations

from typing import Final

from auth.principal import Principal

EXCLUSIVE: Final = "instance "
"""With this an identity begins that no two living connections share."""


def identity(instance: str | None, principal: Principal | None, user_id: str | None) -> str | None:
    """Return the closest name that is known, always with the same user; ``None``: there is none."""
    sub = user_id or ""
    if instance is not None:
        return f"{EXCLUSIVE}{instance} {sub}"
    if principal is not None and principal.sid is not None:
        return f"sid {principal.sid} {sub}"
    if principal is not None and principal.jti is not None:
        return f"jti {principal.jti} {sub}"
    return f"sub {sub}" if sub else None

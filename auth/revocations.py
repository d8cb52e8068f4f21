"""Revocations: rights that ended before the tokens that give them.

A revocation refuses what tokens say of a subject, a token id, a hotel, a role or a guest's booking,
where the token was issued no later than the revocation, or does not say when. A token issued after
it is believed again: whoever issues it knows better.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from auth.principal import Kind, Principal, Role


class Revoked(StrEnum):
    """What a revocation names."""

    SUB = "sub"
    JTI = "jti"
    HOTEL = "hotel"
    ROLE = "role"
    BOOKING = "booking"
    """`HOTEL/BOOKING`: a guest's stay has ended."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revocation; times are seconds since the epoch."""

    id: str
    what: Revoked
    value: str
    at: float
    """In force from then on, for tokens issued until then."""
    until: float
    """In force until then: at least as long as the longest token lives."""
    before: float | None = None
    """Where it took the place of one in force: from when on that was."""

    def refuses(self, iat: float | None, now: float) -> bool:
        """Whether it refuses, now, what a token of this age says."""
        if now >= self.until:
            return False
        ends = (at for at in (self.at, self.before) if at is not None and at <= now)
        return any(iat is None or iat <= at for at in ends)


class Revocations:
    """Every revocation that this node knows of."""

    __slots__ = ("_by_value",)

    def __init__(self, known: Iterable[Revocation] = ()) -> None:
        self._by_value: dict[tuple[Revoked, str], Revocation] = {}
        self.replace(known)

    def replace(self, known: Iterable[Revocation]) -> None:
        """Know these and no others."""
        self._by_value = {(each.what, each.value): each for each in known}

    def put(self, revocation: Revocation) -> None:
        """Know one more, in place of an older one of the same value."""
        self._by_value[revocation.what, revocation.value] = revocation

    def lift(self, what: Revoked, value: str) -> None:
        """Know one less."""
        self._by_value.pop((what, value), None)

    def forget_ended(self, now: float) -> None:
        """Forget those that are in force no more."""
        for key, each in list(self._by_value.items()):
            if each.until <= now:
                del self._by_value[key]

    def __len__(self) -> int:
        return len(self._by_value)

    def curtail(self, principal: Principal, now: float) -> Principal | None:
        """Return what is left of a principal: itself, less of it, or nothing at all."""
        if not self._by_value:
            return principal
        if self._refuses(principal, now, Revoked.SUB, principal.sub):
            return None
        if principal.jti is not None and self._refuses(principal, now, Revoked.JTI, principal.jti):
            return None
        if principal.kind is Kind.GUEST and self._checked_out(principal, now):
            return None
        return self._without_roles(self._without_hotels(principal, now), now)

    def _checked_out(self, principal: Principal, now: float) -> bool:
        return any(
            self._refuses(principal, now, Revoked.BOOKING, f"{entry.slug}/{principal.booking_id}")
            for entry in principal.hotels
        )

    def _without_hotels(self, principal: Principal, now: float) -> Principal:
        if principal.all_hotels:
            lost = frozenset(
                value
                for what, value in self._by_value
                if what is Revoked.HOTEL and self._refuses(principal, now, what, value)
            )
            return replace(principal, lost_hotels=lost) if lost else principal
        kept = tuple(
            entry
            for entry in principal.hotels
            if not self._refuses(principal, now, Revoked.HOTEL, entry.slug)
        )
        return principal if kept == principal.hotels else replace(principal, hotels=kept)

    def _without_roles(self, principal: Principal, now: float) -> Principal:
        lost = {role for role in Role if self._refuses(principal, now, Revoked.ROLE, role.value)}
        if not lost:
            return principal
        hotels = tuple(replace(entry, roles=entry.roles - lost) for entry in principal.hotels)
        return replace(principal, roles=principal.roles - lost, hotels=hotels)

    def _refuses(self, principal: Principal, now: float, what: Revoked, value: str) -> bool:
        found = self._by_value.get((what, value))
        return found is not None and found.refuses(principal.iat, now)

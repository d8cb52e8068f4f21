"""Rights that ended before the tokens that give them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from auth.principal import Principal, Role
from auth.revocations import Revocation, Revocations, Revoked
from tests.people import NOW, guest, principal, service, staff

GRAND = {"slug": "grand", "roles": ["finance", "front_desk"]}


def revocation(what: Revoked, value: str, at: float = NOW, until: float = NOW + 100) -> Revocation:
    """Return a revocation that is in force from now on."""
    return Revocation("id", what, value, at, until)


def left(who: Principal, what: Revoked, value: str, now: float = NOW) -> Principal | None:
    """Return what one revocation leaves of a principal."""
    return Revocations([revocation(what, value)]).curtail(who, now)


def slugs(who: Principal | None) -> list[str]:
    """Return the hotels of what is left."""
    assert who is not None
    return [entry.slug for entry in who.hotels]


def test_nothing_revoked_leaves_a_principal_as_it_is() -> None:
    """The very same one; and so does what is revoked of others."""
    who = staff("grand", jti="t-1")
    assert Revocations().curtail(who, NOW) is who
    for what, value in (
        (Revoked.SUB, "staff-2"),
        (Revoked.JTI, "t-2"),
        (Revoked.HOTEL, "ritz"),
        (Revoked.ROLE, "finance"),
        (Revoked.BOOKING, "grand/BK-1"),
    ):
        assert left(who, what, value) == who


@pytest.mark.parametrize(
    "what, value, who",
    [
        (Revoked.SUB, "staff-1", staff("grand")),
        (Revoked.SUB, "staff-1", principal(kind="service", hotels="*")),
        (Revoked.JTI, "t-1", staff("grand", jti="t-1")),
        (Revoked.BOOKING, "grand/BK-1", guest("BK-1", "STATUS_READ")),
    ],
)
def test_person_that_is_revoked_has_nothing_left(what: Revoked, value: str, who: Principal) -> None:
    """By subject, by token, or because the stay has ended."""
    assert left(who, what, value) is None


@pytest.mark.parametrize("value", ["grand/BK-2", "ritz/BK-1", "BK-1"])
def test_stay_ends_by_hotel_and_booking(value: str) -> None:
    """Two hotels may number their bookings alike."""
    who = guest("BK-1", "STATUS_READ")
    assert left(who, Revoked.BOOKING, value) == who


def test_stay_is_a_guests_alone() -> None:
    """Staff who name a booking go on hearing it."""
    who = replace(staff("grand"), booking_id="BK-1")
    assert left(who, Revoked.BOOKING, "grand/BK-1") == who


def test_hotel_that_is_revoked_is_gone() -> None:
    """The others stay, and whoever has no other is still somebody."""
    assert slugs(left(staff("grand", "ritz"), Revoked.HOTEL, "grand")) == ["ritz"]
    assert slugs(left(staff("grand"), Revoked.HOTEL, "grand")) == []


def test_hotel_is_lost_to_an_operator_of_all() -> None:
    """All but that one, and nothing but revocations of hotels counts."""
    who = service()
    assert left(who, Revoked.HOTEL, "grand") == replace(who, lost_hotels=frozenset({"grand"}))
    assert left(who, Revoked.SUB, "grand") == who


def test_role_is_lost_everywhere() -> None:
    """In each hotel's entry and beside them; other roles stay."""
    who = staff(GRAND, "ritz", roles=["finance", "manager"])
    expected = replace(
        who,
        roles=frozenset({Role.MANAGER}),
        hotels=tuple(replace(entry, roles=entry.roles - {Role.FINANCE}) for entry in who.hotels),
    )
    assert left(who, Revoked.ROLE, "finance") == expected
    assert left(who, Revoked.ROLE, "housekeeping") == who


def test_hotel_and_role_may_both_be_lost() -> None:
    """One revocation does not hide another."""
    known = Revocations([revocation(Revoked.HOTEL, "ritz"), revocation(Revoked.ROLE, "finance")])
    curtailed = known.curtail(staff(GRAND, "ritz"), NOW)
    assert slugs(curtailed) == ["grand"]
    assert curtailed is not None
    assert curtailed.hotels[0].roles == {Role.FRONT_DESK}


@pytest.mark.parametrize(
    "iat, is_refused",
    [({}, True), ({"iat": NOW - 1}, True), ({"iat": NOW}, True), ({"iat": NOW + 1}, False)],
)
def test_token_issued_later_is_believed(iat: dict[str, Any], *, is_refused: bool) -> None:
    """Whoever issues it knows better; one that does not say when is refused."""
    assert (left(staff("grand", **iat), Revoked.SUB, "staff-1") is None) is is_refused


@pytest.mark.parametrize(
    "now, is_refused", [(NOW - 0.1, False), (NOW, True), (NOW + 99.9, True), (NOW + 100, False)]
)
def test_revocation_is_in_force_from_its_time_until_its_end(
    now: float, *, is_refused: bool
) -> None:
    """Neither before nor after."""
    assert (left(staff("grand"), Revoked.SUB, "staff-1", now) is None) is is_refused


def test_revocations_come_and_go() -> None:
    """One per value, the latest; lifted and ended ones are forgotten."""
    known = Revocations()
    known.put(revocation(Revoked.SUB, "staff-1", until=NOW + 10))
    known.put(revocation(Revoked.SUB, "staff-1", until=NOW + 20))
    known.put(revocation(Revoked.SUB, "staff-2", until=NOW + 10))
    assert len(known) == 2
    known.forget_ended(NOW + 10)
    assert len(known) == 1
    known.lift(Revoked.SUB, "staff-2")
    assert known.curtail(staff("grand"), NOW + 15) is None
    known.lift(Revoked.SUB, "staff-1")
    assert len(known) == 0
    known.put(revocation(Revoked.SUB, "staff-1"))
    known.replace([revocation(Revoked.HOTEL, "grand")])
    assert slugs(known.curtail(staff("grand"), NOW)) == []

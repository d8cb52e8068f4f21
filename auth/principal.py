"""Who is speaking: the principal, read strictly from the claims of a token.

Whether the claims may be believed is not decided here: `tokens` checks a token's signature, and
`channel_auth` and `user_auth` that of a `bellhop` object, before either asks for the principal.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final, TypeVar

from auth import values
from auth.errors import AuthError, TokenInvalid

MAX_HOTELS: Final = 1000
MAX_CONVERSATIONS: Final = 10_000
MAX_NAMES: Final = 1000
"""How many roles, or scopes, a list may hold, known or not."""
MAX_NAME_CHARS: Final = 256

ALL_HOTELS: Final = "*"

_SLUG: Final = re.compile(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*")
# Names with these beginnings are other channels: `private-x.rooms` is not hotel `private-x`.
_TAKEN_PREFIXES: Final = ("private-", "presence-", "cache-", "staff-")
# `private-guest-booking.7` belongs to the guest of booking 7, not to a hotel.
_TAKEN_SLUG: Final = "guest-booking"

_STEP: Final = re.compile(r"(?<!\\)\.")
_CLASH: Final = 'two claims are mapped to one place, "{}"'


class Kind(StrEnum):
    """What sort of party holds the token."""

    STAFF = "staff"
    GUEST = "guest"
    SERVICE = "service"
    """An operator or a machine: hears every channel of its hotels."""


class Role(StrEnum):
    """What a member of staff does at a hotel; decides which fields they see."""

    FRONT_DESK = "front_desk"
    HOUSEKEEPING = "housekeeping"
    FINANCE = "finance"
    MANAGER = "manager"
    ADMIN = "admin"


class GuestScope(StrEnum):
    """What a guest may use of their booking."""

    STATUS_READ = "STATUS_READ"
    CHAT = "CHAT"
    ROOM_SERVICE = "ROOM_SERVICE"


_Name = TypeVar("_Name", bound=StrEnum)

_KINDS: Final = {kind.value: kind for kind in Kind}
_ROLES: Final = {role.value: role for role in Role}
_SCOPES: Final = {scope.value: scope for scope in GuestScope}


@dataclass(frozen=True, slots=True)
class HotelGrant:
    """One hotel that a principal belongs to, with the roles in force there.

    `roles` are the token's, or the entry's own where it has any: they replace, never add.
    """

    slug: str
    id: str | None
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is speaking. `iat` and `exp` are seconds since the epoch."""

    sub: str
    kind: Kind
    hotels: tuple[HotelGrant, ...]
    all_hotels: bool
    roles: frozenset[Role]
    staff_id: str
    conversations: frozenset[str]
    booking_id: str | None
    scopes: frozenset[GuestScope]
    jti: str | None
    sid: str | None
    name: str | None
    iat: float | None
    exp: float
    lost_hotels: frozenset[str] = frozenset()
    """Of all hotels, those that were revoked; never a claim."""

    def hotel(self, slug: str) -> HotelGrant | None:
        """Return the grant that the token lists for this hotel; `all_hotels` lists none."""
        return next((grant for grant in self.hotels if grant.slug == slug), None)

    def hotels_with_id(self, hotel_id: str) -> tuple[HotelGrant, ...]:
        """Return the grants that the token lists with this id; `all_hotels` lists none."""
        return tuple(grant for grant in self.hotels if grant.id == hotel_id)

    def claims(self) -> dict[str, object]:
        """Return the claims without `sub`, ready for JSON, under the default names.

        `principal_from_claims({"sub": sub, **claims})` gives an equal principal: this is the
        `bellhop` object inside a signed `channel_data` or `user_data`.
        """
        claims: dict[str, object] = {
            "exp": self.exp,
            "iat": self.iat,
            "kind": self.kind.value,
            "hotels": ALL_HOTELS if self.all_hotels else [self._entry(g) for g in self.hotels],
            "roles": sorted(self.roles),
            "staff_id": self.staff_id,
            "conversations": sorted(self.conversations),
            "booking_id": self.booking_id,
            "scope": sorted(self.scopes),
            "jti": self.jti,
            "sid": self.sid,
            "name": self.name,
        }
        return {name: value for name, value in claims.items() if value is not None and value != []}

    def _entry(self, grant: HotelGrant) -> str | dict[str, object]:
        entry: dict[str, object] = {"slug": grant.slug}
        if grant.id is not None:
            entry["id"] = grant.id
        if grant.roles != self.roles:
            entry["roles"] = sorted(grant.roles)
        return entry if len(entry) > 1 else grant.slug


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Under which name, or path (see `claim_path`), a token carries each claim."""

    sub: str = "sub"
    exp: str = "exp"
    iat: str = "iat"
    kind: str = "kind"
    hotels: str = "hotels"
    roles: str = "roles"
    staff_id: str = "staff_id"
    conversations: str = "conversations"
    booking_id: str = "booking_id"
    scope: str = "scope"
    jti: str = "jti"
    sid: str = "sid"
    name: str = "name"


DEFAULT_CLAIM_NAMES: Final = ClaimNames()


@cache
def claim_path(name: str) -> tuple[str, ...]:
    r"""Return the steps that lead to a claim; raises ValueError where one is empty.

    A dot steps into an object (`realm_access.roles`); one that is part of a name is written `\.`.
    A URI (`https://hotel.example/hotels`) is one name as it stands, unless it has a `\.`.
    """
    if "://" in name and "\\." not in name:
        return (name,)
    steps = tuple(step.replace("\\.", ".") for step in _STEP.split(name))
    if not all(steps):
        raise ValueError("a claim's name, and every part of it between dots, must not be empty")
    return steps


def claims_under(names: ClaimNames, claims: Mapping[str, object]) -> dict[str, object]:
    """Move claims from their default names, where they have one, to where a token carries them.

    Raises ValueError where two would have to lie in one place.
    """
    moved: dict[str, object] = {}
    for name, value in claims.items():
        *outer, last = claim_path(getattr(names, name, name))
        place = moved
        for step in outer:
            inner = place.setdefault(step, {})
            if not isinstance(inner, dict):
                raise ValueError(_CLASH.format(step))  # noqa: TRY004 - the settings' fault
            place = inner
        if place.setdefault(last, value) != value:
            raise ValueError(_CLASH.format(last))
    return moved


def principal_from_claims(
    claims: Mapping[str, object], names: ClaimNames = DEFAULT_CLAIM_NAMES
) -> Principal:
    """Read a principal; raises TokenInvalid on the first claim that is not what it must be.

    A null counts as absent, except for `kind` and for the roles of one hotel: there absence gives
    more than a backend that wrote null can have meant. Unknown roles and scopes are ignored.
    """
    try:
        return _principal(claims, names)
    except AuthError as error:
        raise TokenInvalid(error.reason) from None


def _principal(claims: Mapping[str, object], names: ClaimNames) -> Principal:
    sub = _id(claims, names.sub)
    if sub is None:
        raise AuthError(f'claim "{names.sub}" is missing')
    exp = _time(claims, names.exp)
    if exp is None:
        raise AuthError(f'claim "{names.exp}" is missing')
    kind = _kind(_claim(claims, names.kind, Kind.STAFF.value), names.kind)
    roles = _roles(_claim(claims, names.roles), names.roles)
    hotels, all_hotels = _hotels(_claim(claims, names.hotels), names.hotels, kind, roles)
    booking_id = _id(claims, names.booking_id)
    if kind is Kind.GUEST:
        if len(hotels) != 1:
            raise AuthError(f'a guest token needs exactly one hotel in claim "{names.hotels}"')
        if booking_id is None:
            raise AuthError(f'a guest token needs claim "{names.booking_id}"')
    return Principal(
        sub=sub,
        kind=kind,
        hotels=hotels,
        all_hotels=all_hotels,
        roles=roles,
        staff_id=_id(claims, names.staff_id) or sub,
        conversations=_conversations(_claim(claims, names.conversations), names.conversations),
        booking_id=booking_id,
        scopes=_scopes(_claim(claims, names.scope), names.scope),
        jti=_text(claims, names.jti),
        sid=_text(claims, names.sid),
        name=_display_name(_claim(claims, names.name), names.name),
        iat=_time(claims, names.iat),
        exp=exp,
    )


def _claim(claims: Mapping[str, object], name: str, absent: object = None) -> object:
    *outer, last = claim_path(name)
    for step in outer:
        if step not in claims:
            return absent
        inner = claims[step]
        if inner is None:  # not absent: a `kind` would become the default one
            return None
        claims = values.mapping(inner, f'claim "{step}"')
    return claims.get(last, absent)


def _id(claims: Mapping[str, object], name: str) -> str | None:
    value = _claim(claims, name)
    return None if value is None else values.identifier(value, f'claim "{name}"')


def _text(claims: Mapping[str, object], name: str) -> str | None:
    value = _claim(claims, name)
    return None if value is None else values.text(value, f'claim "{name}"')


def _time(claims: Mapping[str, object], name: str) -> float | None:
    value = _claim(claims, name)
    return None if value is None else values.number(value, f'claim "{name}"')


def _display_name(value: object, name: str) -> str | None:
    if value is None:
        return None
    return values.text(value, f'claim "{name}"', limit=MAX_NAME_CHARS, empty=True)


def _kind(value: object, name: str) -> Kind:
    kind = _KINDS.get(value) if isinstance(value, str) else None
    if kind is None:
        raise AuthError(f'claim "{name}" must be one of {", ".join(_KINDS)}')
    return kind


# A frozenset of nothing takes 216 bytes, each time.
_NO_ROLES: Final[frozenset[Role]] = frozenset()
_NO_SCOPES: Final[frozenset[GuestScope]] = frozenset()
_NO_CONVERSATIONS: Final[frozenset[str]] = frozenset()


def _roles(value: object, name: str) -> frozenset[Role]:
    return _NO_ROLES if value is None else _known(value, f'claim "{name}"', _ROLES)


def _known(value: object, what: str, table: Mapping[str, _Name]) -> frozenset[_Name]:
    found = set()
    for entry in values.items(value, what, MAX_NAMES):
        if not isinstance(entry, str):
            raise AuthError(f"{what} must hold strings")
        if entry in table:
            found.add(table[entry])
    return _shared(frozenset(found))


@cache
def _shared(names: frozenset[_Name]) -> frozenset[_Name]:
    """Return the one that stands for all that are equal: every connection holds some."""
    return names


def _scopes(value: object, name: str) -> frozenset[GuestScope]:
    if value is None:
        return _NO_SCOPES
    # OAuth writes the claim of this name as one string of words (RFC 8693 section 4.2).
    words = value.split(" ") if isinstance(value, str) else value
    return _known(words, f'claim "{name}"', _SCOPES)


def _conversations(value: object, name: str) -> frozenset[str]:
    if value is None:
        return _NO_CONVERSATIONS
    entries = values.items(value, f'claim "{name}"', MAX_CONVERSATIONS)
    return frozenset(values.identifier(entry, f'an entry of claim "{name}"') for entry in entries)


def _hotels(
    value: object, name: str, kind: Kind, roles: frozenset[Role]
) -> tuple[tuple[HotelGrant, ...], bool]:
    what = f'claim "{name}"'
    if value is None:
        return (), False
    if value in (ALL_HOTELS, [ALL_HOTELS]):
        if kind is not Kind.SERVICE:
            raise AuthError(f"only a service token may name all hotels in {what}")
        return (), True
    grants: dict[str, HotelGrant] = {}
    for entry in values.items(value, what, MAX_HOTELS):
        grant = _grant(entry, what, roles)
        # The same entry twice is a join in the backend; which of two different ones holds?
        if grants.setdefault(grant.slug, grant) != grant:
            raise AuthError(f'{what} names hotel "{grant.slug}" twice and not alike')
    return tuple(grants.values()), False


def _grant(entry: object, what: str, roles: frozenset[Role]) -> HotelGrant:
    if isinstance(entry, str):
        return HotelGrant(_slug(entry, what), None, roles)
    if not isinstance(entry, dict):
        raise AuthError(f"an entry of {what} must be a slug or an object with a slug")
    hotel_id = entry.get("id")
    return HotelGrant(
        slug=_slug(entry.get("slug"), what),
        id=None if hotel_id is None else values.identifier(hotel_id, f"id of a hotel in {what}"),
        roles=(
            _known(entry["roles"], f"roles of a hotel in {what}", _ROLES)
            if "roles" in entry
            else roles
        ),
    )


def _slug(value: object, what: str) -> str:
    slug = values.text(value, f"slug of a hotel in {what}")
    if not _SLUG.fullmatch(slug):
        raise AuthError(
            f"slug of a hotel in {what} must be words of letters, digits and _,"
            " joined by single dashes"
        )
    if slug.startswith(_TAKEN_PREFIXES):
        raise AuthError(
            f'hotel slug "{slug}" in {what} begins like a channel of another kind'
            f" (none of {' '.join(_TAKEN_PREFIXES)} may begin one)"
        )
    if slug == _TAKEN_SLUG:
        raise AuthError(
            f'hotel slug "{slug}" in {what} is taken: its private channels would be'
            " those of the guests' bookings"
        )
    return slug

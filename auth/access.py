"""Access: one pure decision of (principal, channel) into a grant or a refusal.

A grant says which view of which hotel's events a subscriber gets. Channels whose name has no slug
are guarded per event too: an event reaches a subscriber only where the grant names the event's
hotel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, assert_never

from auth.principal import GuestScope, HotelGrant, Kind, Principal, Role
from channels_spec.contract import Audience, Authorizer, ChannelFamily, ChannelMatch
from channels_spec.views import PLAIN_VIEW

Scope = tuple[tuple[str, frozenset[str]], ...]
"""(key of ``meta.scope``, the values wanted), sorted by key."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one subscriber may hear on one channel; equal grants share a fan-out group."""

    views: tuple[tuple[str, str], ...] = ()
    """(hotel's slug, view's name), sorted."""
    any_hotel: str | None = None
    """The view for events of every other hotel: operators only."""
    lost_hotels: frozenset[str] = frozenset()
    """Of those, the hotels whose events must not be seen."""
    no_hotel: str | None = None
    """The view for events that name no hotel."""
    scope: Scope = ()
    """What the subscriber itself has narrowed it to; empty: everything."""

    def view_for(self, hotel_slug: str) -> str | None:
        """Return the view for an event of this hotel, or ``None`` where it may not be seen."""
        if not hotel_slug:
            return self.no_hotel
        for slug, view in self.views:
            if slug == hotel_slug:
                return view
        return self.any_hotel if hotel_slug not in self.lost_hotels else None

    def wants(self, scope_values: tuple[tuple[str, str], ...]) -> bool:
        """Whether an event with these values of ``meta.scope`` is within the narrowed scope."""
        said = dict(scope_values)
        return all(said.get(key) in values for key, values in self.scope)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a principal may not subscribe; goes to the client as `pusher:subscription_error`."""

    status: int
    """401: nobody is authenticated; 403: somebody is, and may not."""
    reason: str


PLAIN_GRANT: Final = Grant(no_hotel=PLAIN_VIEW)
"""For a channel outside the contract, once Pusher's own rules have let the subscriber in."""


def decide(principal: Principal, match: ChannelMatch) -> Grant | Refusal:
    """Decide what ``principal`` may hear on a contract channel.

    Where the family's authorizer is the callback, the backend has to be asked besides. Where the
    family names roles, whoever is no guest hears only the hotels where they have one.
    """
    roles = match.family.roles
    decision = _by_audience(principal, match)
    if not roles or principal.kind is Kind.GUEST or isinstance(decision, Refusal):
        return decision
    decision = _by_audience(_in_roles(principal, roles), match)
    if isinstance(decision, Refusal):
        needed = ", ".join(sorted(roles))
        return Refusal(403, f"{match.channel} needs one of the roles {needed} at its hotel")
    return decision


def _in_roles(principal: Principal, roles: frozenset[str]) -> Principal:
    """Return a principal of no more than the hotels where it has one of the roles."""
    return replace(
        principal,
        hotels=tuple(entry for entry in principal.hotels if entry.roles & roles),
        all_hotels=principal.all_hotels and bool(principal.roles & roles),
    )


def _by_audience(principal: Principal, match: ChannelMatch) -> Grant | Refusal:
    match match.family.audience:
        case Audience.HOTEL_STAFF:
            return _hotel_staff(principal, match)
        case Audience.HOTEL_STAFF_BY_ID:
            return _hotel_staff_by_id(principal, match)
        case Audience.BOOKING_GUEST:
            return _booking_guest(principal, match)
        case Audience.STAFF_MEMBER:
            mine = principal.kind is Kind.STAFF and principal.staff_id == match.subject
            return _personal(principal, match, mine=mine, owner="another staff member's")
        case Audience.CONVERSATION_MEMBERS:
            # Where the backend is asked, its answer stands for the claim.
            named = match.family.authorizer is Authorizer.CALLBACK
            named = named or match.subject in principal.conversations
            member = principal.kind is Kind.STAFF and named
            return _personal(principal, match, mine=member, owner="a conversation of others")
        case other:
            assert_never(other)


def least_grant(match: ChannelMatch) -> Grant:
    """Return the least view of a channel, for a signature that says nothing of who holds it.

    The backend signed this very channel for this very socket: it answers for the hotel.
    """
    view = match.family.views[0].name
    if match.family.named_by_slug:
        return Grant(views=((match.hotel_slug, view),))
    return Grant(any_hotel=view, no_hotel=view)


def _hotel_staff(principal: Principal, match: ChannelMatch) -> Grant | Refusal:
    slug = match.hotel_slug
    if principal.kind is Kind.GUEST:
        return Refusal(403, "guests may not hear staff channels")
    entry = principal.hotel(slug)
    if entry is not None:
        return Grant(views=((slug, _view(match.family, entry.roles)),))
    if principal.all_hotels and slug not in principal.lost_hotels:
        return Grant(views=((slug, _view(match.family, principal.roles)),))
    return Refusal(403, f"the token does not name the hotel {slug}")


def _hotel_staff_by_id(principal: Principal, match: ChannelMatch) -> Grant | Refusal:
    if principal.kind is Kind.GUEST:
        return Refusal(403, "guests may not hear staff channels")
    entries = principal.hotels_with_id(match.subject)
    if entries:
        granted = [_view(match.family, entry.roles) for entry in entries]
        least = next(view.name for view in match.family.views if view.name in granted)
        return Grant(views=_views(match.family, entries), no_hotel=least)
    if principal.all_hotels:
        view = _view(match.family, principal.roles)
        lost = principal.lost_hotels
        # An event that names no hotel may be one of a hotel that was lost.
        return Grant(any_hotel=view, no_hotel=None if lost else view, lost_hotels=lost)
    return Refusal(403, f"the token names no hotel with the id {match.subject}")


def _booking_guest(principal: Principal, match: ChannelMatch) -> Grant | Refusal:
    view = match.family.views[0].name
    if principal.kind is not Kind.GUEST:
        if principal.all_hotels:
            return Grant(any_hotel=view, lost_hotels=principal.lost_hotels)
        if not principal.hotels:
            return Refusal(403, "the token names no hotel")
        return Grant(views=tuple(sorted((entry.slug, view) for entry in principal.hotels)))
    if not principal.hotels:
        return Refusal(403, "the right to the token's hotel has ended")
    if principal.booking_id != match.subject:
        return Refusal(403, "the token is for another booking")
    reads, chats = (
        GuestScope.STATUS_READ in principal.scopes,
        GuestScope.CHAT in principal.scopes,
    )
    if not reads and not chats:
        return Refusal(403, "the token lacks the scope STATUS_READ")
    own = view if reads and chats else f"{view}-status" if reads else f"{view}-chat"
    return Grant(views=tuple((entry.slug, own) for entry in principal.hotels), no_hotel=own)


def _personal(
    principal: Principal, match: ChannelMatch, *, mine: bool, owner: str
) -> Grant | Refusal:
    """Grant a channel that belongs to people, still guarded by the hotels of the token."""
    if principal.kind is Kind.SERVICE and principal.all_hotels:
        view = _view(match.family, principal.roles)
        return Grant(any_hotel=view, lost_hotels=principal.lost_hotels)
    if not mine and principal.kind is not Kind.SERVICE:
        return Refusal(403, f"{match.channel} is {owner}")
    if not principal.hotels:
        return Refusal(403, "the token names no hotel")
    return Grant(views=_views(match.family, principal.hotels))


def _views(family: ChannelFamily, entries: tuple[HotelGrant, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((entry.slug, _view(family, entry.roles)) for entry in entries))


def _view(family: ChannelFamily, roles: frozenset[Role]) -> str:
    """Return the fullest view of the family that one of the roles opens; else the least."""
    for view in reversed(family.views):
        if view.roles & roles:
            return view.name
    return family.views[0].name

"""The contract: channel families and their events, frozen; `channels_spec.reading` loads it.

A channel belongs to the family whose address it matches; of several, to the most specific one,
which is the one with the most literal characters (`staff-chat-conversation-{id}` before
`staff-chat-{id}`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

from channels_spec.pusher import MAX_EVENT_DATA
from channels_spec.validate import PayloadCheck


class Audience(StrEnum):
    """Who may subscribe to a family: the rule that `auth.access` applies."""

    HOTEL_STAFF = "hotel-staff"
    HOTEL_STAFF_BY_ID = "hotel-staff-by-id"
    BOOKING_GUEST = "booking-guest"
    STAFF_MEMBER = "staff-member"
    CONVERSATION_MEMBERS = "conversation-members"

    @property
    def parameter(self) -> str:
        """The parameter of a family's address that it is decided by."""
        return _PARAMETER_OF[self]


_PARAMETER_OF: Final = {
    Audience.HOTEL_STAFF: "hotel_slug",
    Audience.HOTEL_STAFF_BY_ID: "hotel_id",
    Audience.BOOKING_GUEST: "booking_id",
    Audience.STAFF_MEMBER: "staff_id",
    Audience.CONVERSATION_MEMBERS: "conversation_id",
}


class Authorizer(StrEnum):
    """Who is asked whether somebody may subscribe."""

    CLAIMS = "claims"
    """The token: nobody else is asked."""
    CALLBACK = "callback"
    """The backend, over HTTP."""


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """Which fields of an event a view shows."""

    name: str
    withhold: tuple[str, ...] = ()
    """Field names, or prefixes ending in ``*``, removed at any depth of the body."""
    withholds: re.Pattern[str] | None = None
    """Found in the JSON text of every body that the view withholds something of."""
    roles: frozenset[str] = frozenset()
    """Roles that get this view; empty: whoever may subscribe."""
    listed_fields_only: bool = False
    scope: tuple[str, ...] = ()
    """With ``listed_fields_only``, the keys of ``meta.scope`` that remain."""


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """How a payload field is expected to change from one event to the next.

    Another move is delivered all the same: the contract is not the authority on it.
    """

    field: str
    per: str
    """The payload field that says what moves, such as a room's number; within one hotel."""
    allowed: Mapping[str, frozenset[str]]
    """Where each value may lead. One that is no key may lead anywhere."""

    def unusual(self, before: str, now: str) -> bool:
        """Whether ``now`` is not where ``before`` leads; to stay is no move."""
        return before != now and before in self.allowed and now not in self.allowed[before]


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One event of a family."""

    name: str
    """Empty for the one that stands for every unlisted name of its family."""
    fields: tuple[str, ...] = ()
    """The payload fields that a view with ``listed_fields_only`` lets through."""
    guest_scope: str = "STATUS_READ"
    check: PayloadCheck | None = None
    scope: tuple[str, ...] = ()
    """Keys that ``meta.scope`` should have."""
    category: str = ""
    """What an event is built with where its family has several categories."""
    conflate: str = ""
    """The payload field per which a subscriber that is behind needs only the latest event."""
    summary: str = ""
    deprecated: bool = False
    not_cards: frozenset[str] = frozenset()
    """Fields whose numbers may look like card numbers."""
    replay: bool = True
    """Whether a subscriber that was away gets it afterwards; what rings a bell says no."""
    max_bytes: int = MAX_EVENT_DATA
    """What its body may have, encoded."""
    loggable: frozenset[str] = frozenset()
    """Keys of ``meta.scope`` that logs may show, besides those that they show of every event."""
    moves: Moves | None = None
    ends_stay: bool = False
    """Whether with it the access ends of the guest of ``payload.booking_id``."""


@dataclass(frozen=True, slots=True)
class ChannelFamily:
    """All channels of one address template."""

    name: str
    address: str
    pattern: re.Pattern[str]
    audience: Audience
    categories: frozenset[str]
    events: Mapping[str, EventSpec]
    """By name, synonyms included."""
    views: tuple[ViewSpec, ...]
    """Least view first."""
    private_twin: bool = False
    roster: bool = False
    unlisted: EventSpec | None = None
    """What stands for every snake_case name that is not listed; ``None``: there are none."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Events that ``unlisted`` does not stand for, and the address that they belong to."""
    client_events: bool = False
    """Whether subscribers may send events to each other; only where a channel is one hotel's."""
    roles: frozenset[str] = frozenset()
    """One of them is needed, but by guests, who have none; empty: none is."""
    authorizer: Authorizer = Authorizer.CLAIMS

    @property
    def named_by_slug(self) -> bool:
        """Whether a channel's name says which hotel it is of."""
        return self.audience is Audience.HOTEL_STAFF

    @property
    def for_guests(self) -> bool:
        """Whether guests hear the family, so that only what is listed may leave."""
        return self.audience is Audience.BOOKING_GUEST


@dataclass(frozen=True, slots=True)
class ChannelMatch:
    """A channel of the contract: its family and what its name says."""

    channel: str
    family: ChannelFamily
    parameters: Mapping[str, str]

    @property
    def hotel_slug(self) -> str:
        """The hotel in the channel's name, or the empty string where the name has none."""
        return self.parameters.get("hotel_slug", "")

    @property
    def subject(self) -> str:
        """The parameter that the family's audience is decided by."""
        return self.parameters[self.family.audience.parameter]


@dataclass(frozen=True, slots=True)
class Contract:
    """The families, most specific first."""

    title: str
    families: tuple[ChannelFamily, ...]
    roles: frozenset[str] = field(default=frozenset())
    """Every role that some view or family names."""

    def match(self, channel: str) -> ChannelMatch | None:
        """Return the family that ``channel`` belongs to, or ``None`` outside the contract."""
        return _match(self, channel)

    def __hash__(self) -> int:
        return id(self)


@lru_cache(maxsize=16_384)
def _match(contract: Contract, channel: str) -> ChannelMatch | None:
    for family in contract.families:
        found = family.pattern.fullmatch(channel)
        if found is not None:
            return ChannelMatch(channel, family, found.groupdict())
    return None

"""Who may hear what, written down a second time: from raw claims and the channel's name alone.

It shares no code with the product. Tests over random principals hold the product against it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from hypothesis import strategies as st

HOTELS: Final = ("grand", "sea-view", "hotel_3")
CHANNELS: Final = (
    *(f"{twin}{hotel}.rooms" for hotel in HOTELS for twin in ("", "private-")),
    "grand.room-bookings",
    "sea-view.booking",
    "presence-grand.front-desk",
    "staff-hotel-1",
    "staff-hotel-2",
    "guest-booking-7",
    "private-guest-booking.7",
    "private-guest-booking.8",
    "staff-chat-12",
    "staff-chat-13",
    "staff-chat-conversation-12",
    "staff-chat-conversation-c2",
)
_MONEY: Final = {"finance", "manager", "admin"}
Claims = dict[str, Any]
Revoked = Mapping[tuple[str, str], float]
"""What is revoked, as (`sub`, `jti`, `hotel`, `role` or `booking`, whose), and since when."""


def view(
    claims: Claims, channel: str, hotel: str, roles: frozenset[str] = frozenset()
) -> str | None:
    """Return the view under which a token's holder hears a hotel's event on a channel, if at all.

    ``hotel`` is empty for an event that names none; ``roles`` are those that the family names.
    """
    if roles and claims["kind"] != "guest":
        claims = _in_roles(claims, roles)
    guests_booking = _after(channel, "private-guest-booking.", "guest-booking-")
    if guests_booking is not None:
        return _guest_view(claims, guests_booking, hotel)
    if claims["kind"] == "guest":
        return None
    if (of := _after(channel, "staff-chat-conversation-", "staff-chat-")) is not None:
        return _chat_view(claims, channel, of, hotel)
    if (hotel_id := _after(channel, "staff-hotel-")) is not None:
        return _feed_view(claims, hotel_id, hotel)
    slug = channel.removeprefix("private-").removeprefix("presence-").partition(".")[0]
    if hotel != slug or not _names(claims, slug):
        return None
    return "staff" if channel.startswith("presence-") else _staff_view(_roles(claims, slug))


def _guest_view(claims: Claims, booking: str, hotel: str) -> str | None:
    if claims["kind"] != "guest":
        return "guest" if hotel and _names(claims, hotel) else None
    scopes = set(claims["scope"]) & {"STATUS_READ", "CHAT"}
    if claims["booking_id"] != booking or (hotel and not _names(claims, hotel)) or not scopes:
        return None
    if not claims["hotels"]:
        return None
    if len(scopes) > 1:
        return "guest"
    return "guest-chat" if "CHAT" in scopes else "guest-status"


def _chat_view(claims: Claims, channel: str, of: str, hotel: str) -> str | None:
    if channel.startswith("staff-chat-conversation-"):
        mine = of in claims["conversations"]
    else:
        mine = of == claims["staff_id"]
    if not hotel or not _names(claims, hotel):
        return None
    return "staff" if mine or claims["kind"] == "service" else None


def _feed_view(claims: Claims, hotel_id: str, hotel: str) -> str | None:
    if claims["hotels"] == "*":
        lost = claims.get("lost", ())
        # Without a name it may be a lost one's.
        return None if hotel in lost or (lost and not hotel) else _staff_view(claims["roles"])
    slugs = [entry["slug"] for entry in claims["hotels"] if entry.get("id") == hotel_id]
    if hotel:
        return _staff_view(_roles(claims, hotel)) if hotel in slugs else None
    views = {_staff_view(_roles(claims, slug)) for slug in slugs}
    return max(views, default=None)  # "staff", the lesser view, is the greater word


def _after(channel: str, *prefixes: str) -> str | None:
    found = next((prefix for prefix in prefixes if channel.startswith(prefix)), None)
    return channel.removeprefix(found) if found is not None else None


def _names(claims: Claims, hotel: str) -> bool:
    hotels = claims["hotels"]
    if hotels == "*":
        return hotel not in claims.get("lost", ())
    return any(entry["slug"] == hotel for entry in hotels)


def _roles(claims: Claims, hotel: str) -> list[str]:
    roles: list[str] = claims["roles"]
    for entry in claims["hotels"] if claims["hotels"] != "*" else ():
        if entry["slug"] == hotel:
            return list(entry.get("roles", roles))
    return roles


def _staff_view(roles: list[str]) -> str:
    return "finance" if _MONEY & set(roles) else "staff"


def _in_roles(claims: Claims, needed: frozenset[str]) -> Claims:
    if claims["hotels"] == "*":
        return claims if needed & set(claims["roles"]) else {**claims, "hotels": []}
    mine = [each for each in claims["hotels"] if needed & set(_roles(claims, each["slug"]))]
    return {**claims, "hotels": mine}


# --- what ends ------------------------------------------------------------------------------------


def left(claims: Claims, revoked: Revoked) -> Claims | None:
    """Return what is left of a token's claims: all, fewer, or nothing that opens anything."""
    issued = claims.get("iat")
    ended = {named for named, since in revoked.items() if issued is None or issued <= since}
    if not ended:
        return claims
    if {("sub", claims["sub"]), ("jti", claims.get("jti"))} & ended:
        return None
    if claims["kind"] == "guest":
        stays = {("booking", f"{e['slug']}/{claims['booking_id']}") for e in claims["hotels"]}
        if stays & ended:
            return None
    gone = {whose for what, whose in ended if what == "hotel"}
    lost = {whose for what, whose in ended if what == "role"}
    rest = {**claims, "roles": [role for role in claims["roles"] if role not in lost]}
    if claims["hotels"] == "*":
        return {**rest, "lost": gone}
    rest["hotels"] = [
        {**entry, "roles": [role for role in _roles(claims, entry["slug"]) if role not in lost]}
        for entry in claims["hotels"]
        if entry["slug"] not in gone
    ]
    return rest


# --- payment fields ------------------------------------------------------------------------------


def is_of_payment(key: str) -> bool:
    """The rule of the contract, written down a second time."""
    name = key.lower()
    exactly = {"payment", "payments", "card_last4"}
    return name in exactly or name.startswith(("payment_", "deposit"))


def pruned(value: Any) -> Any:
    """Return JSON without payment fields, by way of a decoder that never sees them."""

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: item for key, item in pairs if not is_of_payment(key)}

    return json.loads(json.dumps(value), object_pairs_hook=kept)


# --- random claims -------------------------------------------------------------------------------

_ROLES: Final = st.lists(
    st.sampled_from(["front_desk", "housekeeping", "finance", "manager", "admin"]), max_size=2
)
_ENTRIES: Final = st.lists(
    st.fixed_dictionaries(
        {"slug": st.sampled_from(HOTELS)},
        optional={"id": st.sampled_from(["1", "2"]), "roles": _ROLES},
    ),
    max_size=3,
    unique_by=lambda entry: str(entry["slug"]),
)


@st.composite
def claims(draw: st.DrawFn, sub: str | None = None) -> Claims:
    """Draw the claims of a valid token, all of them spelled out."""
    kind = draw(st.sampled_from(["staff", "staff", "guest", "service"]))
    hotels: Any = draw(_ENTRIES)
    if kind == "guest":
        hotels = [{"slug": draw(st.sampled_from(HOTELS))}]
    elif kind == "service" and draw(st.booleans()):
        hotels = "*"
    return {
        "sub": sub or draw(st.sampled_from(["12", "13"])),
        "kind": kind,
        "hotels": hotels,
        "roles": draw(_ROLES),
        "staff_id": draw(st.sampled_from(["12", "13", "c2"])),
        "conversations": draw(st.lists(st.sampled_from(["12", "c2"]), max_size=2, unique=True)),
        "booking_id": draw(st.sampled_from(["7", "8"])),
        "scope": draw(
            st.lists(st.sampled_from(["STATUS_READ", "CHAT", "ROOM_SERVICE"]), unique=True)
        ),
    }


def some_claims(rng: Random, sub: str, now: float) -> Claims:
    """Return the claims of a token that is good now, all spelled out but `iat` and `jti`."""
    kind = rng.choice(["staff", "staff", "staff", "guest", "service"])

    def roles() -> list[str]:
        named = ["front_desk", "housekeeping", "finance", "manager", "admin"]
        return rng.sample(named, rng.randrange(3))

    def entry(slug: str) -> Claims:
        found: Claims = {"slug": slug}
        if rng.random() < 0.8:
            found["id"] = rng.choice(["1", "1", "2"])
        if rng.random() < 0.4:
            found["roles"] = roles()
        return found

    hotels: Any = [entry(slug) for slug in rng.sample(HOTELS, rng.choice([0, 1, 1, 2, 2, 3]))]
    if kind == "guest":
        hotels = [{"slug": rng.choice(HOTELS)}]
    elif kind == "service" and rng.random() < 0.5:
        hotels = "*"
    found: Claims = {
        "sub": sub,
        "kind": kind,
        "hotels": hotels,
        "roles": roles(),
        "staff_id": rng.choice(["12", "13", "c2"]),
        "conversations": rng.sample(["12", "c2"], rng.randrange(3)),
        "booking_id": rng.choice(["7", "7", "8"]),
        "scope": rng.sample(["STATUS_READ", "CHAT", "ROOM_SERVICE"], rng.randrange(1, 4)),
        "exp": now + rng.choice([5, 40, 90, 300, 3600]),
    }
    if rng.random() < 0.8:
        found["iat"] = now - rng.choice([0, 0, 1, 30])
    if rng.random() < 0.5:
        found["jti"] = rng.choice(["t1", "t2", "t3"])
    return found

"""Who may see what of an event, written down a second time: from raw claims and a raw contract.

It shares no code with the product: claims are those of a token, a contract is its YAML document as
plain values, a body is what the producer sent. What is seen is told by the markers in it: every
leaf value of a body is one, so that a leak is found by a search in bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]
Rights = Json | None
"""The claims of a token; ``None``: the backend has signed for this channel, and said no more."""

_MARKER: Final = re.compile("zz[0-9]{5}zz")
_CARD_FIELDS: Final = (
    {"pan", "cardnumber"}
    | {f"card_{of}" for of in ("number", "no", "pan", "cvv", "cvc")}
    | {f"{code}{more}" for code in ("cvv", "cvc") for more in ("", "2")}
)
CARD_NUMBER: Final = "4111111111111111"
"""What stands for all card numbers; others do not come up here."""
_WORDS: Final = re.compile("[a-z][a-z0-9]*(_[a-z0-9]+)*")


def marker(number: int) -> str:
    """Return the marker of a number."""
    return f"zz{number:05}zz"


def markers(text: str | bytes) -> set[str]:
    """Return the markers that stand in a text or in raw bytes."""
    return set(_MARKER.findall(text if isinstance(text, str) else text.decode("latin-1")))


# --- channels ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A channel, and what a contract says of it."""

    document: Json
    family: Json
    names: dict[str, str]
    """What stands in the place of each parameter."""

    @property
    def hotel(self) -> str:
        """The hotel that the channel's name says; empty where it says none."""
        return self.names.get("hotel_slug", "")

    @property
    def audience(self) -> str:
        return str(self.family["x-bellhop-audience"])

    def view(self, name: str) -> Json:
        """Return the contract's words on a view."""
        return dict(self.document["x-bellhop-views"][name])

    def message(self, event: str) -> Json | None:
        """Return the contract's words on an event of this channel."""
        stand_in = self.family.get("x-bellhop-unlisted")
        for key, given in self.family["messages"].items():
            said = _resolved(self.document, given)
            known = {said.get("name", key), *said.get("x-bellhop-synonyms", ())}
            if event in known and key != stand_in:
                return said
        if stand_in is not None and _WORDS.fullmatch(event):
            return _resolved(self.document, self.family["messages"][stand_in])
        return None


def place(document: Json, channel: str) -> Place | None:
    """Return where a channel belongs: of several families, to the one that spells out most."""
    found = [
        (len(re.sub("{.*?}", "", family["address"])), Place(document, family, names))
        for family in document["channels"].values()
        for names in _readings(document, family, channel)
    ]
    return max(found, key=lambda entry: entry[0])[1] if found else None


def _readings(document: Json, family: Json, channel: str) -> Iterator[dict[str, str]]:
    text = ""
    for literal, parameter in re.findall("([^{]*)(?:{(.*?)})?", family["address"]):
        text += re.escape(literal)
        if parameter:
            said = _resolved(document, family["parameters"][parameter])
            text += f"(?P<{parameter}>{said['x-bellhop-pattern']})"
    spellings = [channel]
    if family.get("x-bellhop-private-twin") and channel.startswith("private-"):
        spellings.append(channel[len("private-") :])
    for spelling in spellings:
        if found := re.fullmatch(text, spelling):
            yield found.groupdict()


def _resolved(document: Json, value: Json) -> Json:
    while "$ref" in value:
        steps, value = value["$ref"].split("/")[1:], document
        for step in steps:
            value = value[step]
    return value


# --- who hears -----------------------------------------------------------------------------------


def may_subscribe(rights: Rights, where: Place) -> bool:
    """Whether there can be an event that the holder hears there."""
    hotels = {"", "anywhere", where.hotel, *_hotels(rights or {})}
    return any(
        view_of(rights, where, hotel, scope)
        for hotel in hotels
        for scope in ("STATUS_READ", "CHAT")
    )


def view_of(rights: Rights, where: Place, hotel: str, guest_scope: str) -> str | None:
    """Return the view in which the holder hears a hotel's event, if at all.

    Args:
        rights: the holder's.
        where: the channel.
        hotel: that the event is of; empty where it says none.
        guest_scope: the scope that a guest needs for the event.

    """
    views: list[str] = where.family["x-bellhop-views"]
    if rights is None:
        return views[0]
    kind = rights.get("kind", "staff")
    needed = set(where.family.get("x-bellhop-roles", ()))
    if needed and kind != "guest":
        rights = _in_roles(rights, needed)
    if where.audience == "booking-guest":
        return views[0] if _of_booking(rights, kind, where, hotel, guest_scope) else None
    if kind == "guest":
        return None
    match where.audience:
        case "hotel-staff":
            hears = hotel == where.hotel and _names(rights, hotel)
        case "hotel-staff-by-id":
            return _in_feed(rights, where, hotel)
        case "staff-member":
            mine = str(rights.get("staff_id", rights["sub"])) == where.names["staff_id"]
            hears = (mine or kind == "service") and _names(rights, hotel)
        case "conversation-members":
            mine = where.names["conversation_id"] in map(str, rights.get("conversations", ()))
            hears = (mine or kind == "service") and _names(rights, hotel)
        case other:
            raise AssertionError(other)
    return _fullest(where, _roles(rights, hotel)) if hears else None


def _in_roles(claims: Json, needed: set[str]) -> Json:
    """Return claims of those hotels only where the holder has one of the roles."""
    if "*" in claims.get("hotels", ()):
        return claims if needed & set(claims.get("roles", ())) else {**claims, "hotels": []}
    mine = [entry for slug, entry in _hotels(claims).items() if needed & set(_roles(claims, slug))]
    return {**claims, "hotels": mine}


def _of_booking(rights: Json, kind: str, where: Place, hotel: str, guest_scope: str) -> bool:
    if kind != "guest":
        return _names(rights, hotel)
    scope = rights.get("scope", ())
    held = scope.split(" ") if isinstance(scope, str) else scope
    own = str(rights["booking_id"]) == where.names["booking_id"]
    return own and guest_scope in held and (not hotel or _names(rights, hotel))


def _in_feed(rights: Json, where: Place, hotel: str) -> str | None:
    if "*" in rights.get("hotels", ()):
        return _fullest(where, rights.get("roles", []))
    number = where.names["hotel_id"]
    mine = [slug for slug, entry in _hotels(rights).items() if str(entry.get("id")) == number]
    if hotel:
        return _fullest(where, _roles(rights, hotel)) if hotel in mine else None
    views = [_fullest(where, _roles(rights, slug)) for slug in mine]
    # It may be any of these hotels' event: the least that one of them opens.
    return min(views, key=where.family["x-bellhop-views"].index, default=None)


def _hotels(claims: Json) -> dict[str, Json]:
    entries = [{"slug": e} if isinstance(e, str) else e for e in claims.get("hotels", ())]
    return {entry["slug"]: entry for entry in entries}


def _names(claims: Json, hotel: str) -> bool:
    return hotel != "" and ("*" in claims.get("hotels", ()) or hotel in _hotels(claims))


def _roles(claims: Json, hotel: str) -> list[str]:
    entry = _hotels(claims).get(hotel, {})
    return list(entry["roles"] if "roles" in entry else claims.get("roles", ()))


def _fullest(where: Place, roles: list[str]) -> str:
    names: list[str] = where.family["x-bellhop-views"]
    opened = [name for name in names if set(roles) & set(where.view(name).get("roles", ()))]
    return [names[0], *opened][-1]


# --- what goes out -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """An event as its producer gave it."""

    channel: str
    name: str | None
    """The Pusher event name; ``None`` where the body names itself."""
    body: Json

    @property
    def is_envelope(self) -> bool:
        return all(isinstance(self.body.get(key), dict) for key in ("payload", "meta"))

    @property
    def event(self) -> str:
        """The name that holds."""
        given = self.name or self.body.get("type") or self.body.get("event_type")
        assert isinstance(given, str)
        return given

    def scope(self) -> Json:
        """Return what ``meta.scope`` says, where it is an object."""
        meta = self.body.get("meta")
        scope = meta.get("scope") if isinstance(meta, dict) else None
        return scope if isinstance(scope, dict) else {}

    def hotel(self, where: Place) -> str:
        """Return the hotel that the event is of; empty where nothing says it."""
        meta = self.body.get("meta")
        stated = meta.get("hotel_slug") if isinstance(meta, dict) else None
        return where.hotel if stated is None else str(stated)


def refused(said: Said, where: Place, *, strictly: bool) -> bool:
    """Whether the event is refused; ``strictly`` where its shape counts (mode `enforce`)."""
    message = where.message(said.event)
    if where.hotel and said.hotel(where) != where.hotel:
        return True
    if message is None and where.audience == "booking-guest":
        return True
    if not strictly:
        return False
    if message is None or not said.is_envelope or _holds_cards(_normal(said, where)):
        return True
    parts = message.get("payload", {}).get("allOf", [{}])
    required = parts[-1].get("properties", {}).get("payload", {}).get("required", [])
    body = said.body
    stated = body.get("type") or body.get("event_type")
    return (
        body.get("category") not in where.family["x-bellhop-categories"]
        or not set(required) <= set(body["payload"])
        or "hotel_slug" not in body["meta"]
        or not isinstance(body["meta"].get("scope", ""), dict | str)
        # Two names of one event are no contradiction.
        or not isinstance(stated, str)
        or (stated != said.event and where.message(stated) is not message)
        or (stated != said.event and where.message(stated) is _stand_in(where))
    )


def _stand_in(where: Place) -> Json | None:
    key = where.family.get("x-bellhop-unlisted")
    return None if key is None else _resolved(where.document, where.family["messages"][key])


def seen(said: Said, where: Place, view_name: str) -> set[str]:
    """Return the markers of an event that a view shows."""
    view = where.view(view_name)
    body = _normal(said, where)
    message = where.message(said.event) or {}
    if view.get("listed-fields-only"):
        body = _listed(body, message.get("x-bellhop-fields", ()), view.get("scope", ()))
    withheld = [key.lower() for key in view.get("withhold", ())]

    def kept(pairs: list[tuple[str, Any]]) -> Json:
        return {
            key: value
            for key, value in pairs
            if not any(_means(name, key.lower()) for name in withheld)
            and key.lower() not in _CARD_FIELDS
        }

    shown = json.loads(json.dumps(body), object_pairs_hook=kept)
    return markers(json.dumps(shown)) | markers(_called(said, where))


def _means(name: str, key: str) -> bool:
    return key.startswith(name[:-1]) if name.endswith("*") else key == name


def _called(said: Said, where: Place) -> str:
    message = where.message(said.event)
    if message is None or message is _stand_in(where):
        return said.event
    return str(message["name"])


def _normal(said: Said, where: Place) -> Json:
    """Return the body as it goes out to somebody who may see all of it."""
    if not said.is_envelope:
        return said.body
    body = {key: value for key, value in said.body.items() if key != "event_type"}
    meta = {key: value for key, value in body["meta"].items() if key not in ("sequence", "epoch")}
    if isinstance(meta.get("scope"), str):
        meta["scope"] = {"audience": meta["scope"]}
    if not isinstance(meta.get("ts"), str):
        meta["ts"] = "now"
    return {**body, "type": _called(said, where), "meta": meta}


def _listed(body: Json, fields: list[str], scope_keys: list[str]) -> Json:
    def only(given: Any, keys: Any) -> Json:
        return {key: given[key] for key in given if key in keys} if isinstance(given, dict) else {}

    if not (isinstance(body.get("payload"), dict) and isinstance(body.get("meta"), dict)):
        return only(body, fields)
    meta = only(body["meta"], ("event_id", "hotel_slug", "ts"))
    return {
        **only(body, ("category", "type")),
        "payload": only(body["payload"], fields),
        "meta": {**meta, "scope": only(body["meta"].get("scope"), scope_keys)},
    }


def _holds_cards(body: Json) -> bool:
    keys: list[str] = []

    def noted(pairs: list[tuple[str, Any]]) -> Json:
        keys.extend(key.lower() for key, _ in pairs)
        return dict(pairs)

    text = json.dumps(body)
    json.loads(text, object_pairs_hook=noted)
    return CARD_NUMBER in text or bool(_CARD_FIELDS & set(keys))


def within(said: Said, wanted: dict[str, set[str]]) -> bool:
    """Whether the event is one that a filter asks for: values by key of ``meta.scope``."""
    scope = said.scope()
    return all(
        isinstance(scope.get(key), str | int) and str(scope[key]) in values
        for key, values in wanted.items()
    )

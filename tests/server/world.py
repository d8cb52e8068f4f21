"""Random people at random channels while rights come and go: the product against the oracle.

People connect over the whole way inside one node (`stage`) and subscribe; events are published;
tokens are renewed, expire, are revoked and given back. After every step each socket must have got
what the oracle lets it see of that step's events, and nothing else.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Final

import yaml

from auth.revocations import Revoked
from channels_spec.reading import HOTEL_CONTRACT
from server.encoding import Event
from server.publisher import ContractMode
from tests import oracle
from tests.oracle import Claims
from tests.server.stage import APPS, Socket, Stage, token
from tests.visibility import Json, marker, markers

SPREAD_S: Final = 31
"""How long before its token's end a connection may be closed."""
SPOKEN: Final = [name for name in oracle.CHANNELS if not name.startswith("presence-")]
"""Channels that carry events."""
_PEOPLE: Final = 40
_ROLES_OF_BOOKING: Final = frozenset({"front_desk", "manager"})
REVOCABLE: Final = (
    *(("sub", f"p{number}") for number in range(0, _PEOPLE, 3)),
    *(("jti", jti) for jti in ("t1", "t2")),
    *(("hotel", hotel) for hotel in (*oracle.HOTELS, "elsewhere")),
    *(("role", role) for role in ("finance", "manager", "admin", "front_desk")),
    *(("booking", f"{hotel}/{booking}") for hotel in oracle.HOTELS for booking in "78"),
)


@cache
def _document() -> Json:
    document: Json = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    for family in document["channels"].values():
        if family["address"] == "{hotel_slug}.booking":
            family["x-bellhop-roles"] = sorted(_ROLES_OF_BOOKING)
    return document


def _roles_of(channel: str) -> frozenset[str]:
    return _ROLES_OF_BOOKING if channel.endswith(".booking") else frozenset()


def event_for(channel: str, rng: Random) -> tuple[str, str]:
    """Return (category, name) of an event that belongs on a channel."""
    if "guest-booking" in channel:
        return rng.choice(
            [("guest_booking", "booking_confirmed"), ("chat", "chat_message_created")]
        )
    if channel.startswith("staff-chat-conversation-"):
        return "staff_chat", "staff_chat_message_created"
    if channel.startswith("staff-chat-"):
        return "staff_chat", "staff_chat_unread_updated"
    if channel.endswith(".room-bookings"):
        return "room_booking", "booking_updated"
    if channel.endswith(".booking"):
        return "booking", "table_reserved"
    return "rooms", "room_updated"


def shown_in(view: str | None, name: str, note: str, money: str, listed: str) -> set[str]:
    """Return the markers of an event that a view shows."""
    chat = name == "chat_message_created"
    match view:
        case "staff":
            return {note, listed}
        case "finance":
            return {note, money, listed}
        case "guest":
            return {listed}
        case "guest-chat":
            return {listed} if chat else set()
        case "guest-status":
            return set() if chat else {listed}
        case _:
            return set()


@dataclass(eq=False)
class Person:
    """A client, what it has asked for, and what it may have got since the last look."""

    sub: str
    socket: Socket | None = None
    claims: Claims = field(default_factory=dict)
    subscribed: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    """Channels whose right has ended; they come back with it."""
    uncertain: set[str] = field(default_factory=set)
    """Subscribed to, while the broker's word that they are in is on its way."""
    allowed: set[str] = field(default_factory=set)
    due: set[str] = field(default_factory=set)


class World:
    """One node, its people, and what the oracle knows of them."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.stage = Stage(copy.deepcopy(_document()), ContractMode.WARN)
        self.revoked: dict[tuple[str, str], float] = {}
        self.people = [Person(f"p{number}") for number in range(_PEOPLE)]
        self.pairs = self.seen = 0
        """(principal, channel, event) that were judged, and those where something is to be seen."""
        self._fresh = itertools.count()

    def run(self, steps: int) -> None:
        """Let so many things happen."""
        for person in self.people:
            self.connect(person)
        for _ in range(steps):
            getattr(self, self.rng.choice(_STEPS))()
            self.look()
        self.stage.loop.close()

    # --- what happens ----------------------------------------------------------------------------

    def publish(self) -> None:
        """Publish a few events within one turn; now and then a right ends among them."""
        for _ in range(self.rng.choice([1, 1, 2, 4])):
            self._publish()
            if self.rng.random() < 0.05:
                self.revoke()

    def _publish(self) -> None:
        channel = self.rng.choice(SPOKEN)
        category, name = event_for(channel, self.rng)
        hotel = channel.removeprefix("private-").partition(".")[0]
        if hotel not in oracle.HOTELS:
            hotel = self.rng.choice([*oracle.HOTELS, *oracle.HOTELS, "elsewhere", ""])
        note, money, listed = (marker(next(self._fresh)) for _ in range(3))
        payload = {"note": note, "payment": {"sum": money}, "status": listed, "room_number": "1"}
        if name == "chat_message_created":
            payload = {"note": note, "payment_by": money, "body": listed}
        meta = {"hotel_slug": hotel} if hotel else {}
        body = {"category": category, "type": name, "payload": payload, "meta": meta}
        assert self.stage.trigger(Event(APPS[0].id, channel, name, body))
        for person in self.people:
            self.pairs += 1
            rights = self.rights(person)
            if rights is None or channel not in person.subscribed:
                continue
            view = oracle.view(rights, channel, hotel, _roles_of(channel))
            shown = shown_in(view, name, note, money, listed)
            self.seen += bool(shown)
            person.allowed |= shown
            if channel not in person.uncertain:
                person.due |= shown

    def renew(self) -> None:
        """Somebody shows another token of the same subject."""
        person = self.rng.choice(self.people)
        if person.socket is None:
            return
        person.claims = oracle.some_claims(self.rng, person.sub, self.stage.now)
        person.socket.say("bellhop:auth", token=token(person.claims))
        self.judge_anew(person)

    def revoke(self) -> None:
        what, value = self.rng.choice(REVOCABLE)
        self.revoked[what, value] = self.stage.now
        self.stage.revoke(Revoked(what), value)
        for person in self.people:
            self.judge_anew(person)

    def lift(self) -> None:
        if not self.revoked:
            return
        what, value = self.rng.choice([*self.revoked])
        del self.revoked[what, value]
        self.stage.lift(Revoked(what), value)
        for person in self.people:
            self.judge_anew(person)

    def wait(self) -> None:
        """Let time pass: tokens expire, and everybody answers pings meanwhile."""
        for _ in range(self.rng.choice([1, 3, 20])):
            self.stage.wait(1)
            for person in self.people:
                if person.socket is not None:
                    person.socket.session.heard()

    def unsubscribe(self) -> None:
        person, channel = self.rng.choice(self.people), self.rng.choice(oracle.CHANNELS)
        if person.socket is not None:
            person.socket.say("pusher:unsubscribe", channel=channel)
            person.subscribed.discard(channel)
            person.lost.discard(channel)

    def subscribe(self) -> None:
        person = self.rng.choice(self.people)
        if person.socket is not None:
            self.ask(person, self.rng.choice(oracle.CHANNELS))

    def reconnect(self) -> None:
        """Somebody comes back, with the old token or with another."""
        person = self.rng.choice(self.people)
        if person.socket is not None:
            person.socket.session.lost(1001)
        self.connect(person, fresh=self.rng.random() < 0.7)

    def broker_is_slow(self) -> None:
        """The broker's word that somebody is in takes its time, until something else happened."""
        self.stage.answers_at_once = False

    def broker_answers(self) -> None:
        self.stage.answers_at_once = True
        self.stage.settle()

    # --- what the oracle makes of it -------------------------------------------------------------

    def connect(self, person: Person, *, fresh: bool = True) -> None:
        if fresh or not person.claims:
            person.claims = oracle.some_claims(self.rng, person.sub, self.stage.now)
        self.forget(person)
        person.socket = self.stage.knock(APPS[0], person.claims)
        may = self.rights(person) is not None and person.claims["exp"] > self.stage.now
        assert (person.socket is not None) is may
        for channel in self.rng.sample(oracle.CHANNELS, self.rng.randrange(len(oracle.CHANNELS))):
            if person.socket is not None:
                self.ask(person, channel)

    def ask(self, person: Person, channel: str) -> None:
        assert person.socket is not None
        person.socket.say("pusher:subscribe", channel=channel)
        if channel not in person.subscribed:
            self.admit(person, channel)

    def admit(self, person: Person, channel: str) -> None:
        """Let a channel in where there can be an event to hear on it."""
        if not self.may_subscribe(person, channel):
            return
        person.lost.discard(channel)
        person.subscribed.add(channel)
        if not self.stage.answers_at_once:
            person.uncertain.add(channel)

    def judge_anew(self, person: Person) -> None:
        for channel in list(person.subscribed):
            if not self.may_subscribe(person, channel):
                person.subscribed.discard(channel)
                person.lost.add(channel)
        for channel in list(person.lost):
            self.admit(person, channel)

    def may_subscribe(self, person: Person, channel: str) -> bool:
        rights = self.rights(person)
        hotels = ("", *oracle.HOTELS, "elsewhere", "anywhere")
        roles = _roles_of(channel)
        return rights is not None and any(
            oracle.view(rights, channel, hotel, roles) for hotel in hotels
        )

    def rights(self, person: Person) -> Claims | None:
        return oracle.left(person.claims, self.revoked)

    def forget(self, person: Person) -> None:
        for known in (person.subscribed, person.lost, person.uncertain):
            known.clear()

    # --- what is seen ----------------------------------------------------------------------------

    def look(self) -> None:
        """Hold what every socket got since the last look against what it may and must have got."""
        self.stage.turn()
        for person in self.people:
            socket = person.socket
            if socket is None:
                continue
            got = markers(socket.got)
            socket.wire.written.clear()
            assert got <= person.allowed, f"a leak to {person.claims}: {got - person.allowed}"
            assert person.due <= got, f"nothing came to {person.claims}: {person.due - got}"
            if self.stage.answers_at_once:
                person.uncertain.clear()
                person.allowed.clear()
            person.due.clear()
            self.look_at_end(person, socket)

    def look_at_end(self, person: Person, socket: Socket) -> None:
        """Hold that it is closed where it must be, and not before."""
        ended, now = self.rights(person) is None, self.stage.now
        if ended:
            assert socket.closed == 4009, person.claims
        elif now >= person.claims["exp"]:
            assert socket.closed == 4101, person.claims
        elif socket.closed is not None:
            assert socket.closed == 4101, person.claims
            assert now >= person.claims["exp"] - SPREAD_S - 1
        if socket.closed is not None:
            person.socket = None
            self.forget(person)


_STEPS: Final = (
    *(["publish"] * 12),
    *("renew", "revoke", "lift", "lift", "wait", "subscribe", "subscribe", "unsubscribe"),
    *("reconnect", "reconnect", "reconnect", "broker_is_slow", "broker_answers", "broker_answers"),
)

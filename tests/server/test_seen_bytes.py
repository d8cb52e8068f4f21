"""What a socket gets, byte by byte, over random contracts, people and events."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from auth.apps import App
from server.encoding import Event
from server.publisher import ContractMode
from tests.random_hotels import RARELY, channels_of, claims, documents, events
from tests.server.stage import APPS, Socket, Stage, token
from tests.visibility import (
    CARD_NUMBER,
    Json,
    Place,
    Rights,
    Said,
    markers,
    may_subscribe,
    place,
    refused,
    seen,
    view_of,
    within,
)

_SUBS: Final = ("12", "13", "conversation-12")
Step = tuple[str, *tuple[Any, ...]]


@dataclass
class Story:
    """What happens, in order."""

    document: Json
    mode: ContractMode
    channels: list[str]
    people: list[tuple[App, Json | None]]
    steps: list[Step]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Draw a contract, some people who subscribe to everything, and what happens then."""
    document = draw(documents())
    channels = draw(channels_of(document))
    fresh = itertools.count()
    people: list[tuple[App, Json | None]] = []
    for sub in _SUBS[: draw(st.integers(1, 3))]:
        rights = draw(claims(sub))
        # Some show their token later.
        people.append((APPS[draw(RARELY)], None if draw(RARELY) else rights))
    who = st.integers(0, len(people) - 1)
    channel = st.sampled_from(channels)
    steps: list[Step] = []
    # What comes last changes nothing that can be seen, unless there is an event after it.
    for kind in (*draw(st.lists(st.sampled_from(_KINDS), min_size=1, max_size=8)), "publish"):
        match kind:
            case "publish":
                exclude = draw(who) if draw(RARELY) else None
                as_text = draw(st.booleans())
                alike = draw(events(document, channels, fresh))
                steps += [(kind, said, exclude, as_text) for said in alike]
            case "filter":
                number, scope = draw(who), draw(_FILTERS)
                steps += [(kind, number, each, scope) for each in channels]
            case "renew":
                number = draw(who)
                sub = "somebody else" if draw(RARELY) else _SUBS[number]
                steps.append((kind, number, draw(claims(sub))))
            case "sign":
                number, said_of = draw(who), draw(st.none() | claims("signed"))
                steps += [(kind, number, each, said_of) for each in channels]
            case "subscribe" | "unsubscribe":
                steps.append((kind, draw(who), draw(channel)))
            case "pause" | "resume":
                steps.append((kind, draw(who)))
            case _:
                steps.append((kind,))
    return Story(document, draw(st.sampled_from(ContractMode)), channels, people, steps)


_KINDS: Final = (
    *(["publish"] * 5),
    *(["renew"] * 3),
    *(["filter"] * 3),
    "turn",
    "subscribe",
    "unsubscribe",
    *("sign", "pause", "resume", "broker is slow", "broker confirms"),
    *("entrance is slow", "entrance answers"),
)
_FILTERS: Final = st.sampled_from(
    [
        None,
        {"room_number": ["101"]},
        {"room_number": [102, "103"]},
        {"booking_id": [7], "room_number": ["101", 102]},
        {"booking_id": ["8"]},
    ]
)


@dataclass
class Subscription:
    """What a listener has asked for and may have, by the oracle."""

    rights: Rights
    own: bool
    """Whether the rights are those of the connection's token, and change with it."""
    admitted: bool = False
    answered: bool = False
    """Whether the broker's word has come that it is in; until then events are held back."""
    held: set[str] = field(default_factory=set)
    """What it gets then, if it is still there."""
    wanted: dict[str, set[str]] = field(default_factory=dict)


class Listener:
    """What a socket must get, and may get, by the oracle."""

    def __init__(self, socket: Socket, rights: Json | None, *, falls_behind: bool) -> None:
        self.socket = socket
        self.rights = rights
        self.parked: list[str] = []
        self.subscriptions: dict[str, Subscription] = {}
        self.lost: set[str] = set()
        """Channels whose right has ended; they come back with it."""
        self.gone = False
        self.falls_behind = falls_behind
        self.due: set[str] = set()
        """What it has published itself, and may see."""
        self.allowed: set[str] = set()
        """Due, or conflated away by what came after it."""

    def subscribe(self, where: Place, channel: str) -> None:
        if channel in self.subscriptions:
            return
        if self.rights is None:
            self.parked.append(channel)
        elif may_subscribe(self.rights, where):
            self.lost.discard(channel)
            self.subscriptions[channel] = Subscription(self.rights, own=True)

    def signed(self, where: Place, channel: str, rights: Rights) -> None:
        if channel not in self.subscriptions and may_subscribe(rights, where):
            self.lost.discard(channel)
            self.subscriptions[channel] = Subscription(rights, own=False)

    def unsubscribe(self, channel: str) -> None:
        self.subscriptions.pop(channel, None)
        self.lost.discard(channel)
        self.parked = [parked for parked in self.parked if parked != channel]

    def renew(self, places: dict[str, Place], rights: Json) -> None:
        if self.rights is not None and self.rights["sub"] != rights["sub"]:
            self.gone = True
            return
        self.rights = rights
        for channel, subscription in list(self.subscriptions.items()):
            if subscription.own and may_subscribe(rights, places[channel]):
                subscription.rights = rights
            elif subscription.own:
                del self.subscriptions[channel]
                self.lost.add(channel)
        for channel in sorted(self.lost):
            self.subscribe(places[channel], channel)
        parked, self.parked = self.parked, []
        for channel in parked:
            self.subscribe(places[channel], channel)

    def hear(self, said: Said, where: Place) -> None:
        subscription = self.subscriptions.get(said.channel)
        if self.gone or subscription is None or not subscription.admitted:
            return
        message = where.message(said.event) or {}
        scope = message.get("x-bellhop-guest-scope", "STATUS_READ")
        view = view_of(subscription.rights, where, said.hotel(where), scope)
        if view is None or not within(said, subscription.wanted):
            return
        shown = seen(said, where, view)
        self.allowed |= shown
        if self.falls_behind and "x-bellhop-conflate" in message:
            return
        (self.due if subscription.answered else subscription.held).update(shown)


class Telling:
    """A story told twice: to the product, and to the oracle."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.places = {channel: self._place(channel) for channel in story.channels}
        self.stage = Stage(story.document, story.mode)
        self.listeners = [
            Listener(
                self.stage.enter(app, rights),
                rights,
                falls_behind=("pause", number) in story.steps,
            )
            for number, (app, rights) in enumerate(story.people)
        ]

    def _place(self, channel: str) -> Place:
        found = place(self.story.document, channel)
        assert found is not None, channel
        return found

    def tell(self) -> None:
        for number, _ in enumerate(self.listeners):
            for channel in self.story.channels:
                self.step("subscribe", number, channel)
        for kind, *more in self.story.steps:
            self.step(kind, *more)
        self.step("entrance answers")
        self.stage.turn()
        for listener in self.listeners:
            listener.socket.session.outbox.resume()
        self.stage.loop.close()

    def step(self, kind: str, *more: Any) -> None:
        match kind:
            case "publish":
                said, excluded, as_text = more
                self.publish(said, excluded, as_text=as_text)
            case "turn":
                self.stage.turn()
            case "broker is slow":
                self.stage.confirms_at_once = False
            case "broker confirms":
                self.stage.confirms_at_once = True
                self.stage.confirm()
            case "entrance is slow":
                self.stage.answers_at_once = False
            case "entrance answers":
                self.stage.answers_at_once = True
                self.stage.settle()
            case _:
                number, *rest = more
                self.of_one(self.listeners[number], kind, *rest)
        for listener in self.listeners:
            self.see(listener)

    def see(self, listener: Listener) -> None:
        """Note who is in by now."""
        for channel, subscription in listener.subscriptions.items():
            if (listener.socket.app.id, channel) in self.stage.listening:
                subscription.admitted = True
            if subscription.admitted and self.stage.answers_at_once:
                subscription.answered = True
                listener.due |= subscription.held
                subscription.held.clear()

    def of_one(self, listener: Listener, kind: str, *more: Any) -> None:
        socket = listener.socket
        match (kind, *more):
            case ("pause",):
                socket.session.outbox.pause()
            case ("resume",):
                socket.session.outbox.resume()
            case ("renew", rights):
                socket.say("bellhop:auth", token=token(rights))
                listener.renew(self.places, rights)
            case ("filter", channel, scope):
                socket.say("bellhop:filter", channel=channel, scope=scope)
                if channel in listener.subscriptions:
                    wanted = {key: set(map(str, values)) for key, values in (scope or {}).items()}
                    listener.subscriptions[channel].wanted = wanted
            case ("subscribe", channel):
                socket.say("pusher:subscribe", channel=channel)
                listener.subscribe(self.places[channel], channel)
            case ("unsubscribe", channel):
                socket.say("pusher:unsubscribe", channel=channel)
                listener.unsubscribe(channel)
            case ("sign", channel, rights) if channel.startswith("private-"):
                said = None
                if rights is not None:
                    bellhop = {"exp": 2**32, **rights}
                    said = {"user_id": rights["sub"], "bellhop": bellhop}
                socket.subscribe_signed(channel, said)
                listener.signed(self.places[channel], channel, rights)
            case _:
                assert kind == "sign"  # which a channel without "private-" knows nothing of

    def publish(self, said: Said, excluded: int | None, *, as_text: bool) -> None:
        exclude = self.listeners[excluded] if excluded is not None else None
        event = Event(
            app_id=APPS[0].id,
            channel=said.channel,
            name=said.name,
            data=json.dumps(said.body) if as_text else said.body,
            exclude=exclude.socket.session.socket_id if exclude is not None else "",
        )
        where = self.places[said.channel]
        strictly = self.story.mode is ContractMode.ENFORCE
        taken = self.stage.trigger(event)
        assert taken is not refused(said, where, strictly=strictly)
        for listener in self.listeners:
            if taken and listener.socket.app is APPS[0] and listener is not exclude:
                listener.hear(said, where)


@settings(max_examples=100)
@given(stories())
def test_socket_gets_what_its_holder_may_see_and_nothing_else(story: Story) -> None:
    """Every marker on a wire is one that its holder may see, and none of those is missing."""
    telling = Telling(story)
    telling.tell()
    for listener in telling.listeners:
        got = listener.socket.got
        found = markers(got)
        assert found <= listener.allowed, "a leak"
        if not listener.gone:
            assert listener.due <= found, "something did not arrive"
        assert (listener.socket.closed is not None) is listener.gone
        assert CARD_NUMBER.encode() not in got
        assert CARD_NUMBER[4:].encode() not in got

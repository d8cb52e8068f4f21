"""Random conversations: whatever is said, in whatever order, certain things never happen."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from auth.access import Grant
from auth.channel_auth import sign_channel
from auth.errors import TokenInvalid
from auth.user_auth import sign_user
from server.protocol.connection import Connection
from server.protocol.effects import (
    Admit,
    Close,
    Effect,
    Enter,
    Join,
    Leave,
    Refuse,
    Regroup,
    Relay,
    Send,
    VerifyToken,
)
from server.protocol.presence import Entered
from server.protocol.rules import Rules
from server.protocol.way import Way
from tests import oracle
from tests.people import APP, CONTRACT, NOW, principal

SOCKET_ID = "12.34"
OPEN = ("x", "#server-to-user-12", "#server-to-user-13")
SIGNED = ("private-x", "presence-x", *(c for c in oracle.CHANNELS if c.startswith("pr")))
HOTELS = ("", *oracle.HOTELS, "elsewhere")
# How long tokens live; the shortest ends within the conversation.
LIVES = st.sampled_from([15, 3600])

CHANNELS = st.sampled_from((*oracle.CHANNELS, *OPEN, "private-x"))
# Nearly always the same subject's: another one's closes the connection, and that is that.
SUBJECTS = st.sampled_from(["12"] * 9 + ["13"])
TOKENS = st.tuples(SUBJECTS.flatmap(oracle.claims), LIVES)
JSON = st.dictionaries(st.sampled_from(["event", "data", "channel", "auth"]), st.text(max_size=5))
SCOPES = st.none() | st.just({"room_number": [12]}) | st.just({"guest": ["Ann"]})
RAW = st.binary(max_size=20) | JSON.map(lambda message: json.dumps(message).encode())


@st.composite
def conversations(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Draw steps that keep coming back to the same few channels and tokens."""
    channels = st.sampled_from(draw(st.lists(CHANNELS, min_size=1, max_size=3)))
    signed = st.sampled_from(draw(st.lists(st.sampled_from(SIGNED), min_size=1, max_size=2)))
    tokens = st.sampled_from(draw(st.lists(TOKENS, min_size=1, max_size=3)))
    subscribe = st.tuples(st.just("subscribe"), channels | signed)
    joined = st.tuples(st.just("joined"), st.integers(0, 3))
    # What the broker answers may be for a subscription that has been left meanwhile.
    answered = st.tuples(st.sampled_from(["entered"] * 5 + ["full"]), st.integers(0, 3))
    steps = st.one_of(
        subscribe,
        subscribe,
        joined,
        answered,
        st.tuples(st.just("subscribe signed"), signed, st.none() | tokens),
        st.tuples(st.just("subscribe forged"), signed, st.text(max_size=5)),
        st.tuples(st.just("unsubscribe"), channels | signed),
        st.tuples(st.just("signin"), SUBJECTS, st.none() | tokens),
        st.tuples(st.just("signin by token"), tokens, SUBJECTS),
        st.tuples(st.just("renew"), tokens),
        st.tuples(st.just("renew"), tokens),
        st.tuples(st.just("wait"), st.floats(0, 12)),
        st.tuples(st.just("raw"), RAW),
        st.tuples(st.just("client event"), channels),
        st.tuples(st.just("filter"), channels | signed, SCOPES),
    )
    said = draw(st.lists(steps, max_size=25))
    return [*said, ("bad token",)] if draw(st.booleans()) else said


class Conversation:
    """A connection, and the fan-out as it would be if every effect were carried out."""

    def __init__(self, rules: Rules, spread: float) -> None:
        self.connection = Connection(SOCKET_ID, APP, rules, spread=spread, now=NOW)
        self.now = NOW
        self.claims: oracle.Claims | None = None
        self.grants: dict[str, Grant] = {}
        self.joining: list[str] = []
        self.entering: list[Enter] = []
        self.asked: dict[str, Enter] = {}
        self.admitted: set[str] = set()
        self.signed: dict[str, oracle.Claims | None] = {}
        self.wanted: set[str] = set()
        self.closed = False

    # --- what is done ----------------------------------------------------------------------------

    def do(self, step: tuple[Any, ...]) -> None:
        match step:
            case "subscribe", channel:
                self.say("pusher:subscribe", {"channel": channel}, asks=channel)
            case "subscribe signed", channel, token:
                self.subscribe_signed(channel, token)
            case "subscribe forged", channel, auth:
                self.say("pusher:subscribe", {"channel": channel, "auth": auth}, asks=channel)
            case "unsubscribe", channel:
                self.wanted.discard(channel)
                self.say("pusher:unsubscribe", {"channel": channel})
            case "joined", index if self.joining:
                self.joined(self.joining.pop(index % len(self.joining)))
            case ("entered" | "full") as how, index if self.entering:
                self.answered(self.entering.pop(index % len(self.entering)), how)
            case "signin", user, token:
                self.signin(user, token)
            case "signin by token", (claims, life), user:
                data = {"auth": "a.b.c", "user_data": json.dumps({"id": user})}
                self.verified(self.say("pusher:signin", data), claims, life)
            case "renew", (claims, life):
                self.verified(self.say("bellhop:auth", {"token": "a.b.c"}), claims, life)
            case ("bad token",):
                self.say("bellhop:auth", {"token": "a.b.c"})
                self.carry_out(self.connection.token_refused(TokenInvalid("bad")))
            case "wait", seconds:
                self.now += seconds
                self.carry_out(self.connection.tick(self.now))
            case "raw", text:
                self.carry_out(self.connection.receive(text, self.now))
            case "filter", channel, scope:
                known = dict(self.signed)
                self.say("bellhop:filter", {"channel": channel, "scope": scope})
                # It narrows what is heard, by whatever right.
                self.signed = known
            case "client event", channel:
                self.say("client-x", {}, channel=channel)
            case _:  # a "joined" while nothing joins, or an answer while nothing is asked
                assert step[0] in ("joined", "entered", "full")

    def say(
        self, event: str, data: dict[str, Any], *, asks: str | None = None, **more: Any
    ) -> list[Effect]:
        if asks is not None:
            self.wanted.add(asks)
        text = json.dumps({"event": event, "data": data, **more}).encode()
        return self.carry_out(self.connection.receive(text, self.now))

    def subscribe_signed(self, channel: str, token: Any) -> None:
        claims = {**token[0], "sub": "12"} if token else None
        data = self.data("user_id", "12", token)
        auth = sign_channel(APP, SOCKET_ID, channel, data)
        effects = self.say(
            "pusher:subscribe",
            {"channel": channel, "auth": auth, "channel_data": data},
            asks=channel,
        )
        if any(isinstance(effect, Join | Regroup) for effect in effects):
            self.signed[channel] = claims

    def signin(self, user: str, token: Any) -> None:
        data = self.data("id", user, token)
        effects = self.connection.receive(
            json.dumps(
                {
                    "event": "pusher:signin",
                    "data": {"auth": sign_user(APP, SOCKET_ID, data), "user_data": data},
                }
            ).encode(),
            self.now,
        )
        if token and not closes(effects):
            self.claims = {**token[0], "sub": user}
        self.carry_out(effects)

    def data(self, key: str, user: str, token: Any) -> str:
        data: dict[str, Any] = {key: user}
        if token:
            claims, life = token
            data["bellhop"] = principal(**{**claims, "exp": self.now + life}).claims()
        return json.dumps(data)

    def verified(self, asked: list[Effect], claims: oracle.Claims, life: float) -> None:
        (effect,) = asked
        assert isinstance(effect, VerifyToken)
        who = principal(**{**claims, "exp": self.now + life})
        effects = self.connection.token_verified(effect, who, self.now)
        if not closes(effects):
            self.claims = claims
        self.carry_out(effects)

    def joined(self, channel: str) -> None:
        effects = self.connection.joined(channel)
        assert channel in self.wanted
        assert [type(effect) for effect in effects] == [Enter]
        self.carry_out(effects)

    def answered(self, asked: Enter, how: str) -> None:
        stale = self.asked.get(asked.channel) is not asked
        before = asked.channel in self.admitted
        if how == "full":
            effects = self.connection.refused(asked.channel, asked.subscription, "full")
            expected: list[type[Effect]] = [Leave, Refuse]
        else:
            effects = self.connection.entered(asked.channel, asked.subscription, Entered())
            expected = [Send] if before else [Send, Admit]
        assert [type(effect) for effect in effects] == ([] if stale else expected)
        self.carry_out(effects)

    # --- what follows from it --------------------------------------------------------------------

    def carry_out(self, effects: list[Effect]) -> list[Effect]:
        assert not closes(effects[:-1]), "something follows a close"
        for effect in effects:
            match effect:
                case Join(channel, grant):
                    assert channel not in self.grants, "joined twice"
                    self.grants[channel] = grant
                    self.joining.append(channel)
                    self.signed.pop(channel, None)
                case Regroup(channel, grant):
                    assert channel in self.grants, "moved without having joined"
                    self.grants[channel] = grant
                    self.signed.pop(channel, None)
                case Leave(channel):
                    del self.grants[channel]
                    self.signed.pop(channel, None)
                    self.asked.pop(channel, None)
                    self.admitted.discard(channel)
                    # The hub tells nobody who has left.
                    self.joining = [other for other in self.joining if other != channel]
                case Enter(channel):
                    assert channel in self.grants
                    self.asked[channel] = effect
                    self.entering.append(effect)
                case Admit(channel):
                    assert channel not in self.admitted, "admitted twice"
                    self.admitted.add(channel)
                case Relay(channel):
                    assert channel in self.admitted, "relayed for somebody who hears nothing"
                case Refuse(channel):
                    self.wanted.discard(channel)
                case Send(frame):
                    self.read(json.loads(frame))
                case Close():
                    self.closed = True
                case _:
                    pass
        assert set(self.connection.channels) == set(self.grants)
        return effects

    def read(self, frame: dict[str, Any]) -> None:
        if frame["event"] == "pusher_internal:subscription_succeeded":
            assert frame["channel"] in self.wanted
            assert frame["channel"] in self.grants
            assert frame["channel"] not in self.joining

    def check(self) -> None:
        """Hold every guarded channel that the client hears against the rules."""
        for channel, grant in self.grants.items():
            if CONTRACT.match(channel) is None or channel not in self.wanted:
                continue
            seen = {hotel: grant.view_for(hotel) for hotel in HOTELS}
            if channel not in self.signed:
                assert self.claims is not None, f"{channel} is heard by nobody known"
                assert seen == expected(self.claims, channel)
            elif (claims := self.signed[channel]) is not None:
                assert seen == expected(claims, channel)
            else:
                assert set(seen.values()) <= {None, "staff", "guest"}


def closes(effects: list[Effect]) -> bool:
    """Whether a close is among effects."""
    return any(isinstance(effect, Close) for effect in effects)


def expected(claims: oracle.Claims, channel: str) -> dict[str, str | None]:
    """Return what the rules show on a channel, by hotel."""
    return {hotel: oracle.view(claims, channel, hotel) for hotel in HOTELS}


@settings(max_examples=250)
@given(
    conversations(),
    st.none() | oracle.claims("12"),
    st.booleans(),
    st.booleans(),
    st.floats(0, 0.999),
)
def test_connection_never_gives_more_than_the_rules(
    steps: list[tuple[Any, ...]],
    handshake: oracle.Claims | None,
    serves_unlisted: bool,  # noqa: FBT001
    require_token: bool,  # noqa: FBT001
    spread: float,
) -> None:
    """No step raises, nothing follows a close, no channel joins twice, none is heard unduly.

    After every step each guarded channel in the fan-out shows, for every hotel, exactly what the
    rules give to whoever speaks now, or to whoever the signature names by which it was opened.
    """
    rules = Rules(CONTRACT, serves_unlisted=serves_unlisted, require_token=require_token)
    talk = Conversation(rules, spread)
    talk.claims = handshake
    who = principal(**handshake) if handshake is not None else None
    talk.carry_out(talk.connection.open(who, Way.PATH, talk.now))
    for step in steps:
        talk.do(step)
        if talk.closed:
            break
        talk.check()

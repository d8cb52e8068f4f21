"""The end of a token on a live connection: told before, spread, and never late."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Final

from channels_spec.pusher import CloseCode
from server.protocol.connection import Connection
from server.protocol.effects import Close, Effect, Send
from server.protocol.rules import Rules
from server.protocol.way import Way
from server.wheel import Wheel
from tests.people import APP, CONTRACT, NOW, principal

_RULES: Final = Rules(CONTRACT)


class Clock:
    """What the wheel asks."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Client:
    """A connection on the wheel whose client answers every ping."""

    def __init__(self, clock: Clock, exp: float, spread: float) -> None:
        self.connection = Connection("1.1", APP, _RULES, spread=spread, now=clock())
        self.exp = exp
        self.due = 0
        self.warned_at: float | None = None
        self.ended_at: float | None = None
        self.ended_with: CloseCode | None = None
        for effect in self.connection.open(principal(exp=exp), Way.PATH, clock()):
            self._note(effect, clock())

    def tick(self, now: float) -> float | None:
        self.connection.heard(now)
        for effect in self.connection.tick(now):
            self._note(effect, now)
        return self.connection.deadline() if self.ended_at is None else None

    def _note(self, effect: Effect, now: float) -> None:
        match effect:
            case Close(code):
                self.ended_at, self.ended_with = now, code
            case Send(frame) if b"bellhop:token_expiring" in frame:
                data = json.loads(frame)["data"]
                assert (json.loads(data) if isinstance(data, str) else data) == {
                    "exp": int(self.exp)
                }
                assert self.warned_at is None
                self.warned_at = now


def lived(ends: list[float], spreads: list[float]) -> list[Client]:
    """Let clients live until the last of their tokens has ended, with a wheel that is late."""
    clock = Clock()
    wheel = Wheel(clock)
    clients = [Client(clock, exp, each) for exp, each in zip(ends, spreads, strict=True)]
    for client in clients:
        if client.ended_at is None:
            wheel.schedule(client, client.connection.deadline())
    while clock.now < max(ends) and any(client.ended_at is None for client in clients):
        clock.now += 1
        wheel.turn()
    return clients


def test_connections_end_before_their_tokens_and_not_together() -> None:
    """10,000 tokens that end in one second close within the half minute before, evenly."""
    rng = Random(7)
    clients = lived([NOW + 300] * 10_000, [rng.random() for _ in range(10_000)])
    assert {client.ended_with for client in clients} == {CloseCode.TOKEN_EXPIRED}
    ends = Counter(client.ended_at for client in clients)
    assert None not in ends
    assert min(map(float, filter(None, ends))) >= NOW + 300 - 31
    assert max(map(float, filter(None, ends))) <= NOW + 300
    assert max(ends.values()) < 2 * 10_000 / 30


def test_connections_end_before_tokens_of_any_length() -> None:
    """Whatever a token's end is, a fraction of a second included, nobody lives longer than it."""
    rng = Random(8)
    ends = [NOW + rng.uniform(2.0, 60.0) for _ in range(10_000)]
    for client in lived(ends, [rng.random() for _ in ends]):
        assert client.ended_at is not None
        assert client.ended_at <= client.exp
        assert client.ended_with is CloseCode.TOKEN_EXPIRED


def test_connection_ends_before_its_token_when_that_was_about_to_end() -> None:
    """Who shows a token in its last moments gets no more than these."""
    for left in (0.1, 0.5, 1.2):
        (client,) = lived([NOW + left], [0.5])
        assert client.ended_at is not None
        assert client.ended_at <= client.exp


def test_client_is_told_a_minute_before_its_token_ends() -> None:
    """Once, with the end itself; at once where there is less than a minute."""
    (client,) = lived([NOW + 300], [0.0])
    assert client.warned_at == NOW + 240
    (client,) = lived([NOW + 20], [0.0])
    assert client.warned_at == NOW + 1

"""The callback authorizer against a real HTTP backend; only its clock is moved by hand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog.testing

from auth.apps import App
from auth.principal import Principal, principal_from_claims
from server.authorizer import Answer, Authorizer
from tests.harness import DEADLINE_S, eventually

APP = App("1", "key", "top-secret")
CHANNEL = "staff-chat-conversation-7"
SOCKET_ID = "1.1"
HANG = 0
CUT = -1
YES = (200, b'{"allowed":true}')
NO = (200, b'{"allowed":false}')


@dataclass(frozen=True)
class Question:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def asked(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class Backend:
    """Remembers what it is asked, and answers as it is told; a status of HANG never does."""

    port: int = 0
    answer: Callable[[Question], tuple[int, bytes]] = lambda _question: YES
    asked: list[Question] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/may?they=enter"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._request(reader, writer):
                    pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (x.split(": ", 1) for x in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        question = Question(first.split(" ")[1], headers, body)
        self.asked.append(question)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        status, content = self.answer(question)
        if status == HANG:
            await reader.read()
        if status in (HANG, CUT):
            return False
        head = f"HTTP/1.1 {status} X\r\nLocation: /else\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        await writer.drain()
        return True


class Clock:
    """Says what it is told."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    """A backend, and an authorizer that asks it."""

    backend: Backend
    authorizer: Authorizer
    clock: Clock

    async def ask(self, channel: str = CHANNEL, who: Principal | None = None) -> Answer:
        """Ask, and await the answer."""
        asked = self.authorizer.ask(APP, SOCKET_ID, channel, who or staff())
        return await asyncio.wait_for(asked, DEADLINE_S)


def staff(sub: str = "staff-1", **claims: Any) -> Principal:
    """Return a member of staff."""
    given = {"sub": sub, "exp": 2_000_000_000, "hotels": ["grand"], "jti": "t-1", **claims}
    return principal_from_claims(given)


@contextlib.asynccontextmanager
async def scene(
    *answers: tuple[int, bytes], deadline_s: float = DEADLINE_S, cache_s: float = 5.0
) -> AsyncIterator[Scene]:
    """Run a backend that gives these answers first and then the last again, and who asks it."""
    backend, clock, given = Backend(), Clock(), list(answers)
    if given:
        backend.answer = lambda _question: given.pop(0) if len(given) > 1 else given[0]
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
    backend.port = server.sockets[0].getsockname()[1]
    authorizer = Authorizer(
        backend.url, deadline_s=deadline_s, cache_s=cache_s, clock=clock, jitter=lambda: 0.5
    )
    running = asyncio.create_task(authorizer.run())
    try:
        await asyncio.sleep(0)
        yield Scene(backend, authorizer, clock)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()


async def test_question_says_who_asks_for_what_and_is_signed() -> None:
    """A POST of socket, channel and all claims by their default names, signed as webhooks are."""
    async with scene() as here:
        assert await here.ask() == Answer(allowed=True)
        (question,) = here.backend.asked
    assert question.path == "/may?they=enter"
    assert question.asked == {
        "socket_id": SOCKET_ID,
        "channel": CHANNEL,
        "claims": {"sub": "staff-1", **staff().claims()},
    }
    signature = hmac.new(b"top-secret", question.body, hashlib.sha256).hexdigest()
    assert question.headers["x-pusher-key"] == "key"
    assert question.headers["x-pusher-signature"] == signature
    assert question.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "status, content, reason",
    [
        (*NO, "the authorizer refuses it"),
        (200, b'{"allowed":"true"}', 'the authorizer\'s answer has no "allowed" of true or false'),
        (200, b'{"allowed":1}', 'the authorizer\'s answer has no "allowed" of true or false'),
        (200, b"{}", 'the authorizer\'s answer has no "allowed" of true or false'),
        (200, b"[true]", 'the authorizer\'s answer has no "allowed" of true or false'),
        (200, b"true", 'the authorizer\'s answer has no "allowed" of true or false'),
        (200, b"<html>", "the authorizer's answer is not valid JSON"),
        (200, b"", "the authorizer's answer is not valid JSON"),
        (200, b'{"allowed":true,"ttl":"9"}', 'the authorizer\'s "ttl" is not a number of seconds'),
        (200, b'{"allowed":true,"ttl":-1}', 'the authorizer\'s "ttl" is not a number of seconds'),
        (200, b'{"allowed":true,"ttl":true}', 'the authorizer\'s "ttl" is not a number of seconds'),
        (200, b'{"allowed":true}' + b" " * 65_536, "the authorizer's answer is too long"),
        (201, b'{"allowed":true}', "the authorizer answered 201"),
        (302, b'{"allowed":true}', "the authorizer answered 302"),
        (403, b'{"allowed":true}', "the authorizer answered 403"),
        (500, b'{"allowed":true}', "the authorizer answered 500"),
        (CUT, b"", "the connection to the authorizer failed"),
    ],
)
async def test_anything_but_a_yes_is_a_refusal(status: int, content: bytes, reason: str) -> None:
    """The client is told what was wrong; a redirect is not followed."""
    async with scene((status, content)) as here:
        assert await here.ask() == Answer(allowed=False, reason=reason)
        assert len(here.backend.asked) == 1
        assert here.authorizer.counts["allowed"] == 0
        assert here.authorizer.counts["refused"] == 1


async def test_no_answer_in_time_is_a_refusal() -> None:
    """A backend that takes its time, and one that is not there."""
    async with scene((HANG, b""), deadline_s=0.05) as here:
        assert (await here.ask()).reason == "the authorizer did not answer in time"
    nobody = Authorizer("http://127.0.0.1:1/", clock=Clock())
    assert (await nobody.ask(APP, SOCKET_ID, CHANNEL, staff())).reason == (
        "the authorizer cannot be asked now"
    )
    running = asyncio.create_task(nobody.run())
    await asyncio.sleep(0)
    refused = await asyncio.wait_for(nobody.ask(APP, SOCKET_ID, CHANNEL, staff()), DEADLINE_S)
    assert refused == Answer(allowed=False, reason="the authorizer cannot be reached")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    "content, lasts_s",
    [
        (b'{"allowed":true}', 5),
        (b'{"allowed":true,"ttl":20}', 20),
        (b'{"allowed":true,"ttl":3600}', 60),
        (b'{"allowed":true,"ttl":0.5}', 0.5),
        (b'{"allowed":true,"ttl":null}', 5),
        (b'{"allowed":false}', 5),
        (b'{"allowed":false,"ttl":20}', 5),
        (b'{"allowed":false,"ttl":2}', 2),
    ],
)
async def test_answer_counts_for_as_long_as_it_says(content: bytes, lasts_s: float) -> None:
    """At most a minute, a refusal at most five seconds, and after that it is asked anew."""
    async with scene((200, content)) as here:
        first = await here.ask()
        here.clock.now += lasts_s - 0.25
        again = await here.ask()
        assert again.allowed is first.allowed
        if first.ttl_s is not None:
            assert again.ttl_s == first.ttl_s - (lasts_s - 0.25)
        assert len(here.backend.asked) == 1
        here.clock.now += 0.25
        assert await here.ask() == first
        assert len(here.backend.asked) == 2
        assert here.authorizer.counts["cached"] == 1


async def test_answer_counts_once_when_nothing_is_kept() -> None:
    """A ttl of 0, or none and a cache of 0."""
    async with scene((200, b'{"allowed":true,"ttl":0}'), (200, b'{"allowed":true}')) as here:
        await here.ask()
        await here.ask()
        assert len(here.backend.asked) == 2
    async with scene(cache_s=0) as here:
        await here.ask()
        await here.ask()
        assert len(here.backend.asked) == 2


async def test_answer_counts_for_nobody_else() -> None:
    """Another channel, user, token, role or app is another question."""
    async with scene() as here:
        others = [
            here.authorizer.ask(APP, SOCKET_ID, CHANNEL, staff()),
            here.authorizer.ask(APP, SOCKET_ID, "staff-chat-conversation-8", staff()),
            here.authorizer.ask(APP, SOCKET_ID, CHANNEL, staff("staff-2")),
            here.authorizer.ask(APP, SOCKET_ID, CHANNEL, staff(jti="t-2")),
            here.authorizer.ask(APP, SOCKET_ID, CHANNEL, staff(roles=["admin"])),
            here.authorizer.ask(App("2", "key-2", "s-2"), SOCKET_ID, CHANNEL, staff()),
        ]
        await asyncio.wait_for(asyncio.gather(*others), DEADLINE_S)
        assert len(here.backend.asked) == 6
        assert {question.headers["x-pusher-key"] for question in here.backend.asked} == {
            "key",
            "key-2",
        }


async def test_same_question_is_asked_once_at_a_time() -> None:
    """Who asks meanwhile gets the same answer; one that stops waiting takes nothing from others."""
    async with scene() as here:
        here.backend.gate.clear()
        asked = [here.authorizer.ask(APP, SOCKET_ID, CHANNEL, staff()) for _ in range(10)]
        await eventually(lambda: here.backend.asked)
        asked[0].cancel()
        here.backend.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(*asked[1:]), DEADLINE_S)
        assert answers == [Answer(allowed=True)] * 9
        assert len(here.backend.asked) == 1
        assert here.authorizer.counts == {"shared": 9, "allowed": 1}


async def test_questions_at_once_are_bounded() -> None:
    """A backend is asked 64 things at once, however many want to know; all get their answer."""
    async with scene() as here:
        here.backend.gate.clear()
        people = [staff(f"staff-{number}") for number in range(200)]
        asked = [here.authorizer.ask(APP, SOCKET_ID, CHANNEL, who) for who in people]
        await eventually(lambda: len(here.backend.asked) == 64)
        here.backend.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(*asked), DEADLINE_S)
        assert all(answer.allowed for answer in answers)
        assert here.backend.most_at_once <= 64
        assert len(here.backend.asked) == 200


async def test_backend_that_fails_is_left_alone_for_a_while() -> None:
    """After five failures none is asked; then one is, and its answer decides for all."""
    async with scene((503, b""), cache_s=0) as here:
        for number in range(5):
            refused = await here.ask(f"c-{number}")
            assert refused.reason == "the authorizer answered 503"
        assert here.authorizer.resting
        here.clock.now += 6.2
        alone = await here.ask()
        assert alone.reason == "the authorizer does not answer and is left alone for some seconds"
        assert len(here.backend.asked) == 5
        # The rest is over, by the jitter's half: one question finds out that nothing is better.
        here.clock.now += 0.1
        here.backend.gate.clear()
        probe = here.authorizer.ask(APP, SOCKET_ID, "c-5", staff())
        await eventually(lambda: len(here.backend.asked) == 6)
        assert not (await here.ask()).allowed
        here.backend.gate.set()
        assert (await asyncio.wait_for(probe, DEADLINE_S)).reason == "the authorizer answered 503"
        assert not (await here.ask()).allowed
        assert len(here.backend.asked) == 6
        here.clock.now += 6.3
        here.backend.answer = lambda _question: YES
        assert (await here.ask()).allowed
        assert (await here.ask("c-1")).allowed
        assert here.authorizer.counts["left_alone"] == 3
        assert here.authorizer.counts["failed"] == 6


async def test_refusals_do_not_make_a_backend_look_lost() -> None:
    """403 and the like are answers, and are kept like them; four failures are not yet too many."""
    async with scene((403, b""), cache_s=5) as here:
        for number in range(9):
            await here.ask(f"c-{number}")
        await here.ask("c-0")
        assert len(here.backend.asked) == 9
        here.backend.answer = lambda _question: (500, b"")
        for number in range(4):
            await here.ask(f"d-{number}")
        here.backend.answer = lambda _question: YES
        assert (await here.ask("d-0")).allowed
        here.backend.answer = lambda _question: (500, b"")
        for number in range(4):
            await here.ask(f"e-{number}")
        assert not here.authorizer.resting


async def test_stopping_answers_who_waits() -> None:
    """Nobody waits for ever for an authorizer that is gone."""
    async with scene() as here:
        here.backend.gate.clear()
        asked = here.authorizer.ask(APP, SOCKET_ID, CHANNEL, staff())
        await eventually(lambda: here.backend.asked)
    assert await asyncio.wait_for(asked, DEADLINE_S) == Answer(
        allowed=False, reason="the server is stopping"
    )


async def test_logs_have_no_claims_and_no_secrets() -> None:
    """What is logged of a failure: app, channel and reason."""
    with structlog.testing.capture_logs() as lines:
        async with scene((500, b""), cache_s=0) as here:
            for number in range(5):
                await here.ask(f"c-{number}", staff(name="Ada"))
            here.clock.now += 10
            here.backend.answer = lambda _question: YES
            await here.ask()
    names = [line["event"] for line in lines]
    assert names == [
        *["authorizer.failed"] * 5,
        "authorizer.left_alone",
        "authorizer.answers_again",
    ]
    assert all(word not in str(lines) for word in ("top-secret", "Ada", "staff-1", "they=enter"))

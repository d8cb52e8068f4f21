"""Presence of one node: whoever leaves is told to the broker, however the answers meet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from auth.apps import App, AppRegistry, WebhookKind
from server.broker.membership import Departure
from server.presence import Presence
from server.protocol.presence import Entered


class Broker:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.left: list[int] = []
        self.answers: list[asyncio.Future[Any]] = []

    def note(self, *_: str) -> asyncio.Future[None]:
        return _done(None)

    forget = note

    def enter(self, entry: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def leave(
        self, app_id: str, channel: str, sockets: int, user: str | None, **_: Any
    ) -> asyncio.Future[Departure]:
        self.left.append(sockets)
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


def _done(value: Any) -> asyncio.Future[Any]:
    future = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


class Arrival:
    def entered(self, entered: Entered) -> None: ...
    def refused(self, reason: str) -> None: ...


async def test_last_one_is_told_when_it_leaves_as_the_one_before_is_answered() -> None:
    """The answer to one departure does not make the node forget the next, not yet told."""
    broker = Broker()
    app = App("1", "key-1", "secret-1")
    presence = Presence(broker, AppRegistry([app]), lambda *_, **__: None)  # type: ignore[arg-type]
    key = ("1", "rooms")
    for socket_id in ("1.1", "2.2"):
        presence.enter(key, socket_id, None, Arrival())
    await asyncio.sleep(0)
    presence.leave(key, "1.1")
    await asyncio.sleep(0)
    assert broker.left == [1]
    broker.answers[0].set_result(
        Departure(vacated=False, sockets=1, member_removed=False, count_is_due=False)
    )
    presence.leave(key, "2.2")
    for _ in range(3):
        await asyncio.sleep(0)
    assert broker.left == [1, 0]


@pytest.mark.parametrize("elsewhere, told", [(3, [3]), (0, [])])
async def test_count_of_a_channel_is_told_when_a_nodes_last_subscriber_leaves(
    elsewhere: int, told: list[int]
) -> None:
    """The backend hears how many the other nodes have; that nobody is left is told otherwise."""
    broker = Broker()
    heard: list[int] = []

    def notify(_: str, kind: WebhookKind, __: str, **fields: Any) -> None:
        if kind is WebhookKind.SUBSCRIPTION_COUNT:
            heard.append(fields["subscription_count"])

    app = App("1", "key-1", "secret-1", subscription_count=True)
    presence = Presence(broker, AppRegistry([app]), notify)  # type: ignore[arg-type]
    key = ("1", "rooms")
    presence.enter(key, "1.1", None, Arrival())
    await asyncio.sleep(0)
    presence.leave(key, "1.1")
    await asyncio.sleep(0)
    broker.answers[0].set_result(
        Departure(
            vacated=not elsewhere, sockets=elsewhere, member_removed=False, count_is_due=False
        )
    )
    await asyncio.sleep(0)
    assert heard == told

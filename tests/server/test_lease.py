"""The lease: one node at a time, and a former holder is known to be one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from server.broker.keys import Keys
from server.lease import LASTS_S, Lease
from tests.harness import Server, eventually


@dataclass
class Clock:
    """A clock that goes on when told."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Nodes:
    """Nodes that share a lease, each with a clock of its own."""

    redis: Redis
    keys: Keys = field(default_factory=lambda: Keys(f"lease-{uuid.uuid4().hex[:8]}:"))
    clocks: list[Clock] = field(default_factory=list)

    def node(self, **options: float) -> Lease:
        """Return the lease as one more node sees it."""
        self.clocks.append(Clock())
        return Lease(self.redis, self.keys, "thing", clock=self.clocks[-1], **options)


@pytest.fixture
async def nodes(server: Server) -> AsyncIterator[Nodes]:
    """Nodes on the shared Valkey."""
    async with server.redis() as redis:
        yield Nodes(redis)


async def test_lease_is_one_nodes(nodes: Nodes) -> None:
    """The second gets it when the first lets it go, and nobody else can let it go."""
    one, two = nodes.node(), nodes.node()
    assert await one.renew()
    assert not await two.renew()
    await two.release()
    assert not await two.renew()
    assert await one.renew()
    await one.release()
    assert not one.held
    assert await two.renew()


async def test_token_stays_while_held_and_rises_with_every_holder(nodes: Nodes) -> None:
    """Also where Redis has forgotten the last one."""
    one, two = nodes.node(), nodes.node()
    tokens = []
    for lease in (one, two, one, two):
        assert await lease.renew()
        tokens.append(lease.token)
        assert await lease.renew()
        assert lease.token == tokens[-1]
        assert lease.holds(lease.token)
        await lease.release()
        if len(tokens) == 2:
            await nodes.redis.delete(nodes.keys.beside("thing", "last-lease"))
    assert tokens == sorted(set(tokens))
    assert not one.holds(tokens[0])


async def test_token_rises_when_the_clock_of_redis_does_not(nodes: Nodes) -> None:
    """One more than the last, whatever the time."""
    future = 2**52
    await nodes.redis.set(nodes.keys.beside("thing", "last-lease"), future)
    lease = nodes.node()
    assert await lease.renew()
    assert lease.token == future + 1
    assert await nodes.redis.get(lease.key) == str(future + 1).encode()


async def test_holder_stops_by_its_own_clock_before_redis_lets_go(nodes: Nodes) -> None:
    """Without a renewal in time it does not act, though the key is still there."""
    one, two = nodes.node(), nodes.node()
    await one.renew()
    token = one.token
    (clock, _) = nodes.clocks
    clock.now += LASTS_S * 0.89
    assert one.holds(token)
    clock.now += LASTS_S * 0.02
    assert not one.holds(token)
    assert not await two.renew()
    # Nobody has had it meanwhile: it goes on as before.
    assert await one.renew()
    assert one.token == token


async def test_slow_renewal_counts_from_when_it_was_asked(server: Server) -> None:
    """An answer that comes too late gives no right to act, for Redis has counted meanwhile."""

    def slow() -> float:
        clock.now += LASTS_S
        return clock.now

    clock = Clock()
    async with server.redis() as redis:
        lease = Lease(redis, Keys(f"lease-{uuid.uuid4().hex[:8]}:"), "thing", clock=slow)
        assert not await lease.renew()
        assert await redis.exists(lease.key)


async def test_former_holder_gets_a_new_token(nodes: Nodes) -> None:
    """What it had begun it may not end, not even when it holds the lease again."""
    lease = nodes.node(lasts_s=0.2)
    await lease.renew()
    first = lease.token

    async def expired() -> bool:
        return not await nodes.redis.exists(lease.key)

    await eventually(expired)
    assert await lease.renew()
    assert lease.token > first
    assert not lease.holds(first)


async def test_lease_that_redis_calls_lost_is_lost(nodes: Nodes) -> None:
    """Unless it is another tenure that was lost."""
    lease = nodes.node()
    await lease.renew()
    token = lease.token
    lease.lost(token - 1)
    assert lease.holds(token)
    lease.lost(token)
    assert not lease.holds(token)


async def test_node_that_hesitates_lets_others_go_first(nodes: Nodes) -> None:
    """It takes only what nobody has had for so long, by its clock."""
    shy, other = nodes.node(), nodes.node()
    (clock, _) = nodes.clocks
    assert not await shy.renew(hesitate_s=2.0)
    clock.now += 1.9
    assert not await shy.renew(hesitate_s=2.0)
    await other.renew()
    clock.now += 0.2
    assert not await shy.renew(hesitate_s=2.0)
    await other.release()
    assert not await shy.renew(hesitate_s=2.0)
    clock.now += 1.9
    assert not await shy.renew(hesitate_s=2.0)
    clock.now += 0.2
    assert await shy.renew(hesitate_s=2.0)


@pytest.mark.parametrize("prefix", ["bellhop:", "", "{b}:", "a{b}c:"])
def test_key_beside_another_is_in_its_slot(prefix: str) -> None:
    """Or a cluster refuses the scripts; and like every key it begins with the prefix."""
    key = Keys(prefix).beside("thing", "x")
    assert key_slot(key.encode()) == key_slot(f"{prefix}thing".encode())
    assert key.startswith(prefix)

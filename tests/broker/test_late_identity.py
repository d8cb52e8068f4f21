"""A client that subscribes before it is known, as pusher-js does, has nothing taken from it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.broker.pair import enter, sign_in
from tests.broker.returns import GAP, UPDATED, Nodes, Place, drop, dropped, proves, shown
from tests.broker.test_pending_returns import entered
from tests.clients.driver import SUCCEEDED, PusherJs, websocket_options
from tests.clients.hosts import NODE, process_host
from tests.harness import Client, Server, eventually, token
from tests.transports.cut import wire_to

CONFIRMED = "pusher_internal:subscription_succeeded"


def beside(kind: str = "") -> Place:
    """Return a channel outside the contract that no other test speaks of."""
    return Place(name=f"{kind}lobby-{uuid.uuid4().hex[:8]}")


@dataclass
class Late:
    """A person whose connections subscribe first, and sign in afterwards."""

    by: str = "signature"
    instance: str = ""
    user: str = field(default_factory=lambda: f"guest-{uuid.uuid4().hex[:8]}")

    @asynccontextmanager
    async def there(self, node: Server, *places: Place) -> AsyncIterator[Client]:
        """Connect, subscribe, and do not say yet who it is."""
        path = f"/s/{self.instance}" if self.instance else ""
        async with node.client(path, max_queue=None) as client:
            for place in places:
                if place.channel.startswith(("private-", "presence-")):
                    user = self.user if place.channel.startswith("presence-") else None
                    await enter(node, client, place.channel, user)
                else:
                    await client.subscribe(place.channel)
            yield client

    @asynccontextmanager
    async def known(self, node: Server, *places: Place) -> AsyncIterator[Client]:
        """Connect, subscribe, then sign in."""
        async with self.there(node, *places) as client:
            await self.tell(node, client)
            yield client

    async def tell(self, node: Server, client: Client) -> None:
        """Say who it is."""
        if self.by == "signature":
            await sign_in(node, client, {"id": self.user})
        elif self.by == "signin by JWT":
            await client.signin(token(self.user), self.user)
            await client.until("pusher:signin_success")
        else:
            claims = {"sid": self.user} if self.by == "renewal with sid" else {}
            await client.send("bellhop:auth", {"token": token(self.user, **claims)})
            await client.until("bellhop:authenticated")

    async def lose(self, node: Server, *places: Place) -> None:
        """Be there for a while, known at last, and be lost without a word."""
        async with self.known(node, *places) as before:
            await dropped(node, before)


async def live(node: Server, client: Client, *places: Place) -> None:
    """Publish one event more on each, and await it."""
    for place in places:
        await place.publish(node)
        await place.last_of(client)


def confirmed(client: Client) -> int:
    """Count how often subscriptions were confirmed."""
    return sum(frame["event"] == CONFIRMED for frame in client.frames)


@pytest.mark.parametrize(
    "by, back",
    [("signature", 0), ("signature", 1), ("signin by JWT", 0), ("renewal", 1)],
)
async def test_what_was_missed_comes_as_soon_as_the_client_is_known(
    nodes: Nodes, by: str, back: int
) -> None:
    """In order before what is live, once, on whatever it had subscribed to; confirmed once."""
    places = (beside(), beside("private-"), beside("presence-"), beside("cache-"))
    quiet = beside()
    late = Late(by)
    await late.lose(nodes[0], *places, quiet)
    for place in places[:3]:
        await place.publish(nodes[1], 3)
    async with late.known(nodes[back], *places, quiet) as after:
        await live(nodes[0], after, *places, quiet)
        await after.quiet()
        for place in (*places, quiet):
            assert place.told(after) == place.since(1)
            assert place.gaps(after) == []
        assert confirmed(after) == 5


async def test_instance_with_a_late_signin_is_the_same_page(nodes: Nodes) -> None:
    """Its name is known from the start, its person only later."""
    place = beside()
    late = Late(instance=uuid.uuid4().hex)
    await late.lose(nodes[0], place)
    await place.publish(nodes[1], 2)
    async with late.known(nodes[1], place) as after:
        await live(nodes[0], after, place)
        assert place.told(after) == [1, 2, 3]
        assert place.gaps(after) == []


async def test_client_that_is_known_better_and_better_gets_each_event_once(nodes: Nodes) -> None:
    """First by its person, then by its device: its past goes with the latter."""
    place = beside()
    late, device = Late(), Late("renewal with sid")
    device.user = late.user
    for turn in range(2):
        async with late.known(nodes[turn], place) as client:
            await device.tell(nodes[turn], client)
            if turn:
                await live(nodes[0], client, place)
                assert place.told(client) == [1, 2, 3]
                assert place.gaps(client) == []
            await dropped(nodes[turn], client)
        if not turn:
            await place.publish(nodes[0], 2)


async def test_name_that_comes_while_a_predecessor_is_asked_is_looked_into_too(
    nodes: Nodes,
) -> None:
    """By its person it gets what came last; what it missed as a device is older than that."""
    place = beside()
    device, person = Late("renewal with sid"), Late("renewal")
    person.user = device.user
    await device.lose(nodes[0], place)
    await place.publish(nodes[0])
    async with person.known(nodes[0], place) as half_open:
        await place.publish(nodes[0])
        async with nodes[1].client(f"/t/{token(person.user)}", max_queue=None) as after:
            await after.send("pusher:subscribe", {"channel": place.channel})
            await entered(nodes[0], place, 2)
            await device.tell(nodes[1], after)
            await after.until(GAP)
            await live(nodes[0], after, place)
            assert place.told(after) == [2, 3]
            assert place.gaps(after) == ["identified_late"]
        drop(half_open)


@pytest.mark.parametrize("missed", [0, 2])
async def test_what_was_missed_does_not_come_after_something_newer(
    nodes: Nodes, missed: int
) -> None:
    """An event has come before the client was known: a gap is told, if there is one."""
    place = beside()
    late = Late()
    await late.lose(nodes[0], place)
    await place.publish(nodes[1], missed)
    async with late.there(nodes[1], place) as after:
        await live(nodes[0], after, place)
        await late.tell(nodes[1], after)
        await live(nodes[0], after, place)
        assert place.told(after) == place.since(missed + 1)
        assert place.gaps(after) == ["identified_late"] * bool(missed)
        names = [frame["event"] for frame in after.frames]
        assert not missed or names.index(UPDATED) < names.index(GAP)
        # Told again until the client has proven that it was told.
        await dropped(nodes[1], after)
    async with late.known(nodes[0], place) as again:
        await live(nodes[0], again, place)
        assert place.told(again) == place.since(1)


@pytest.mark.parametrize("missed, told", [(1, []), (2, ["identified_late"])])
async def test_cached_event_has_come_before_what_was_missed(
    nodes: Nodes, missed: int, told: list[str]
) -> None:
    """It is the last of that; where it is not all, there is a gap."""
    place = beside("cache-")
    late = Late()
    await late.lose(nodes[0], place)
    await place.publish(nodes[1], missed)
    async with late.known(nodes[1], place) as after:
        await live(nodes[0], after, place)
        assert place.told(after) == place.since(missed)
        assert place.gaps(after) == told


async def test_what_is_live_waits_while_a_predecessor_is_asked(nodes: Nodes) -> None:
    """It looks open, and answers no ping: a second later what was missed comes, then the rest."""
    place = beside()
    late = Late()
    async with late.known(nodes[0], place) as half_open:
        await place.publish(nodes[0], 2)
        async with late.there(nodes[1], place) as after:
            await entered(nodes[0], place, 2)
            await late.tell(nodes[1], after)
            await place.publish(nodes[0], 2)
            assert await place.last_of(after) == [1, 2, 3, 4]
            assert place.gaps(after) == []
        drop(half_open)


async def test_second_living_tab_gets_nothing(nodes: Nodes) -> None:
    """A predecessor that answers a ping is no predecessor."""
    place = beside()
    late = Late()
    async with late.known(nodes[0], place) as first:
        await live(nodes[0], first, place)
        answering = asyncio.create_task(first.until("never"))
        async with late.known(nodes[1], place) as second:
            await live(nodes[0], second, place)
            assert place.told(second) == [2]
        answering.cancel()


@pytest.mark.long
async def test_what_a_late_return_was_told_comes_again_until_it_is_proven(nodes: Nodes) -> None:
    """Neither was it written to a socket that lives, nor did a ping from before prove it."""
    place = beside()
    # With an instance what was taken up is forgotten.
    late = Late(instance=uuid.uuid4().hex)
    await late.lose(nodes[0], place)
    await place.publish(nodes[0], 2)
    async with late.there(nodes[0], place) as before:
        # One second of margin, and one for the first of them.
        await proves(before, 3)
        await late.tell(nodes[0], before)
        await place.last_of(before)
        await dropped(nodes[0], before)
    async with late.known(nodes[0], place) as after:
        await live(nodes[0], after, place)
        assert place.told(after) == [1, 2, 3]


async def test_client_that_counts_for_itself_is_told_once(nodes: Nodes) -> None:
    """What it resumed by number before it was known is not replayed by its past."""
    place = Place(name=f"lobby-{uuid.uuid4().hex[:8]}")
    late = Late()
    await late.lose(nodes[0], place)
    await place.publish(nodes[0], 3)
    async with nodes[0].client(max_queue=None) as after:
        epoch = await epoch_of(nodes[0], place)
        resume: dict[str, Any] = {"channel": place.channel, "epoch": epoch, "sequence": 1}
        await after.send("bellhop:resume", resume)
        await after.subscribe(place.channel)
        await late.tell(nodes[0], after)
        await live(nodes[0], after, place)
        assert place.told(after) == [2, 3, 4]
        assert place.gaps(after) == []


async def epoch_of(node: Server, place: Place) -> str:
    """Return under which epoch a channel is numbered."""
    prefix = node.environment["BELLHOP_REDIS_PREFIX"]
    async with node.redis() as redis:
        found = await redis.hget(f"{prefix}{{1:{place.channel}}}", "epoch")
    assert isinstance(found, bytes)
    return found.decode()


async def test_event_that_was_kept_from_the_client_is_not_replayed_late(nodes: Nodes) -> None:
    """Neither what it caused on the connection that was lost, nor on this one."""
    place = beside()
    late = Late()
    async with late.known(nodes[0], place) as before:
        await dropped(nodes[0], before)
    await place.publish(nodes[0], socket_id=before.socket_id)
    await place.publish(nodes[0])
    async with late.there(nodes[1]) as after:
        await place.publish(nodes[0], socket_id=after.socket_id)
        await after.subscribe(place.channel)
        await late.tell(nodes[1], after)
        await live(nodes[0], after, place)
        assert place.told(after) == [2, 4]


async def test_channel_that_is_left_meanwhile_is_not_replayed(nodes: Nodes) -> None:
    """The client changes its mind while its predecessor is asked."""
    place, other = beside(), beside()
    late = Late()
    async with late.known(nodes[0], place, other) as half_open:
        for each in (place, other):
            await each.publish(nodes[0])
        async with late.known(nodes[0], place, other) as after:
            await after.send("pusher:unsubscribe", {"channel": place.channel})
            await other.last_of(after)
            await live(nodes[0], after, other)
            assert place.told(after) == []
        drop(half_open)


@pytest.mark.clients
async def test_stock_pusher_js_that_signs_in_at_an_endpoint_shows_every_event(
    nodes: Nodes,
) -> None:
    """Its link is cut: it subscribes as soon as it is back, and signs in when it is answered."""
    place = beside()
    async with wire_to(nodes[0].port) as wire, process_host(NODE) as host:
        client = host.new("pusher-js", PusherJs)
        given: dict[str, Any] = {
            "token": token(f"staff-{uuid.uuid4().hex[:8]}"),
            "options": websocket_options(wire.port),
            "userAuth": f"{nodes[0].url}/pusher/user-auth",
        }
        await client.open(nodes[0], **given)
        await client.tell("signin")
        await client.subscribed(place.channel)
        for turn in range(2):
            await client.has(turn + 1, "frame", event="pusher:signin_success")
            wire.hold_up()
            wire.cut()
            wire.mend()
            await place.publish(nodes[1], 2)
            wire.let_go()
            await client.until("event", channel=place.channel, event=SUCCEEDED)
            await eventually(lambda: shown(client)[-1:] == [place.published])
        await client.tell("disconnect")
    assert list(dict.fromkeys(shown(client))) == place.since(1)
    assert client.seen("event", event=GAP) == []

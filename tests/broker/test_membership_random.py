"""Who is where, against a model so simple that it can be believed: nodes with lists of sockets."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Coroutine
from importlib.resources import files
from typing import Any, Final, TypeVar, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from server.broker.keys import Keys
from server.broker.membership import Departure, Entry, Membership
from server.broker.message import EVERYONE, Kind, decode
from server.broker.pipe import Pipe
from server.broker.redis import connect
from server.protocol import frames
from server.protocol.presence import Member
from tests.harness import Server, eventually

ROSTER: Final = "presence-x"
PLAIN: Final = "x"
LIMIT: Final = 3
USERS: Final = ("a", "b", "c", "d", "e")
MARK: Final = b"mark"
T = TypeVar("T")

NODES = st.integers(0, 2)
PEOPLE = st.sampled_from(USERS)


def member(user: str) -> Member:
    """Return a user as a member."""
    return Member(user, b'{"of":"%s"}' % user.encode())


class Node:
    """A node as it knows itself: its sockets, those of members by user."""

    def __init__(self, membership: Membership) -> None:
        self.membership = membership
        self.users: Counter[str] = Counter()
        self.plain = 0

    @property
    def sockets(self) -> int:
        return self.users.total()


class Ground:
    """A loop, and a pipe and a listener on it."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.redis = connect(url)
        scripts = files("server.broker").joinpath("scripts")
        sources = {
            name: scripts.joinpath(f"{name}.lua").read_text("utf-8")
            for name in ("enter", "leave", "beat")
        }
        self.pipe = Pipe(self.redis.connection_pool, sources)
        self.listener = self.redis.pubsub()
        self.task = self.do(self._start())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def _start(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self.pipe.run())
        await eventually(lambda: self.pipe.ready)
        return task

    def end(self) -> None:
        self.do(self._end())
        self.runner.close()

    async def _end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.listener.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it so
        await self.redis.aclose()


class Members(RuleBasedStateMachine):
    """Sockets come and go, nodes tell things twice, die and are swept; Redis forgets."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground = ground
        self.keys = Keys(f"random-{uuid.uuid4().hex}:")
        self.bus = self.keys.bus("1", ROSTER)
        self.nodes = [self.new_node() for _ in range(3)]
        self.version = 0
        self.news: list[tuple[str, str]] = []
        """What subscribers of the presence channel must have been told since the last look."""
        self.do(ground.listener.subscribe(self.bus))

    def new_node(self) -> Node:
        return Node(Membership(self.ground.pipe, self.keys, uuid.uuid4().hex[:8]))

    def do(self, work: Any) -> Any:
        async def awaited() -> Any:
            return await work() if callable(work) else await work

        return self.ground.do(awaited())

    # --- the model -------------------------------------------------------------------------------

    @property
    def roster(self) -> set[str]:
        return {user for node in self.nodes for user in +node.users}

    @property
    def sockets(self) -> int:
        return sum(node.sockets for node in self.nodes)

    @property
    def plain(self) -> int:
        return sum(node.plain for node in self.nodes)

    def came(self, user: str) -> None:
        self.version += 1
        self.news.append(("added", user))

    def went(self, user: str) -> None:
        self.version += 1
        self.news.append(("removed", user))

    # --- presence --------------------------------------------------------------------------------

    @rule(number=NODES, user=PEOPLE)
    def enter(self, number: int, user: str) -> None:
        node, new, first = self.nodes[number], user not in self.roster, self.sockets == 0
        full = new and len(self.roster) >= LIMIT
        admission = self.tell(node, user, node.sockets + 1)
        if full:
            assert admission is None
            return
        if new:
            self.came(user)
        node.users[user] += 1
        assert (admission.member_added, admission.occupied) == (new, first)
        self.check(admission)

    @rule(number=NODES, user=PEOPLE)
    def enter_told_again(self, number: int, user: str) -> None:
        """What an answer was lost of is told once more: nothing happens twice."""
        node = self.nodes[number]
        if node.users[user]:
            admission = self.tell(node, user, node.sockets)
            assert (admission.member_added, admission.occupied) == (False, False)
            self.check(admission)

    def tell(self, node: Node, user: str, sockets: int) -> Any:
        entry = Entry("1", ROSTER, sockets, member(user), LIMIT, socket_id="1.1")

        def ask() -> Any:
            node.membership.note("channels", "1", ROSTER)
            return node.membership.enter(entry)

        return self.do(ask)

    def check(self, admission: Any) -> None:
        assert admission.sockets == self.sockets
        assert admission.entered.version == self.version
        assert {each.user_id for each in admission.entered.roster} == self.roster
        assert {each.user_info for each in admission.entered.roster} == {
            member(user).user_info for user in self.roster
        }

    @rule(number=NODES, user=PEOPLE)
    def leave(self, number: int, user: str) -> None:
        node = self.nodes[number]
        if not node.users[user]:
            return
        node.users[user] -= 1
        last_here = not node.users[user]
        gone = last_here and user not in self.roster
        departure = self.left(node, user if last_here else None)
        if gone:
            self.went(user)
        assert departure == Departure(
            sockets=self.sockets,
            vacated=self.sockets == 0,
            member_removed=gone,
            count_is_due=False,
        )

    @rule(number=NODES)
    def leave_told_again(self, number: int) -> None:
        """Figures that have not changed report nothing."""
        assert self.left(self.nodes[number], None) == Departure(
            self.sockets, vacated=False, member_removed=False, count_is_due=False
        )

    def left(self, node: Node, user: str | None) -> Departure:
        def ask() -> Any:
            departure = node.membership.leave("1", ROSTER, node.sockets, user)
            if not node.sockets:
                node.membership.forget("channels", "1", ROSTER)
            return departure

        departure: Departure = self.do(ask)
        return departure

    # --- a public channel, whose subscribers are told how many they are ---------------------------

    @rule(number=NODES, more=st.integers(1, 3))
    def subscribe(self, number: int, more: int) -> None:
        node, before = self.nodes[number], self.plain
        node.plain += more
        entry = Entry("1", PLAIN, node.plain, counted=True)

        def ask() -> Any:
            node.membership.note("channels", "1", PLAIN)
            return node.membership.enter(entry)

        admission = self.do(ask)
        assert (admission.occupied, admission.member_added) == (before == 0, False)
        assert (admission.sockets, admission.entered.roster) == (self.plain, ())

    @rule(number=NODES, fewer=st.integers(1, 3))
    def unsubscribe(self, number: int, fewer: int) -> None:
        node, before = self.nodes[number], self.plain
        node.plain = max(node.plain - fewer, 0)
        departure = self.do(lambda: node.membership.leave("1", PLAIN, node.plain, counted=True))
        assert (departure.sockets, departure.member_removed) == (self.plain, False)
        assert departure.vacated is (before > 0 and self.plain == 0)

    # --- what goes wrong -------------------------------------------------------------------------

    @rule(number=NODES)
    def node_dies_and_is_swept(self, number: int) -> None:
        """Two notice it at once: one of them sweeps, as the registry does."""
        dead = self.nodes[number]
        before = (self.sockets, self.plain)
        self.nodes[number] = self.new_node()
        sweepers = [self.new_node().membership for _ in range(2)]
        dead_id = dead.membership.node_id
        claims = [self.do(lambda by=by: by.claim(dead_id)) for by in sweepers]
        assert claims == [True, False]
        sweeper = sweepers[0]
        users = self.do(lambda: sweeper.holders("1", ROSTER, dead_id))
        assert set(users) == set(+dead.users)
        vacated = []
        for user in (*users, None):
            departure = self.do(
                lambda user=user: sweeper.leave("1", ROSTER, 0, user, node_id=dead_id)
            )
            gone = user is not None and user not in self.roster
            assert departure.member_removed is gone
            if gone:
                self.went(user)
            vacated.append(departure.vacated)
        departure = self.do(lambda: sweeper.leave("1", PLAIN, 0, node_id=dead_id))
        assert vacated.count(True) == (before[0] > 0 and self.sockets == 0)
        assert departure.vacated is (before[1] > 0 and self.plain == 0)
        self.do(lambda: sweeper.bury(dead_id))

    @precondition(lambda self: self.sockets)
    @rule()
    def redis_forgets(self) -> None:
        """Every node tells everything anew: each member and each channel is new once."""
        self.do(self.forget)
        self.version = 0
        told: set[str] = set()
        occupied = []
        for node in self.nodes:
            for user in sorted(+node.users):
                admission = self.tell(node, user, node.sockets)
                assert admission.member_added is (user not in told)
                occupied.append(admission.occupied)
                if user not in told:
                    told.add(user)
                    self.came(user)
            if node.plain:
                entry = Entry("1", PLAIN, node.plain)
                self.do(lambda node=node, entry=entry: node.membership.enter(entry))
        assert occupied.count(True) == 1
        assert occupied[0]

    async def forget(self) -> None:
        names = [name async for name in self.ground.redis.scan_iter(f"{self.keys.prefix}*")]
        if names:
            await self.ground.redis.delete(*names)

    # --- what holds ------------------------------------------------------------------------------

    @invariant()
    def redis_knows_who_is_there(self) -> None:
        self.do(self.look)

    async def look(self) -> None:
        redis, base = self.ground.redis, self.keys.channel("1", ROSTER)
        members: Any = await redis.hgetall(f"{base}:members")
        assert members == {user.encode(): member(user).user_info for user in self.roster}
        holders: Any = await redis.hgetall(f"{base}:holders")
        assert {
            user.decode(): sorted(nodes.decode().split(",")) for user, nodes in holders.items()
        } == {
            user: sorted(node.membership.node_id for node in self.nodes if node.users[user])
            for user in self.roster
        }
        for channel, attribute in ((ROSTER, "sockets"), (PLAIN, "plain")):
            counts: Any = await redis.hgetall(f"{self.keys.channel('1', channel)}:sockets")
            assert {node.decode(): int(count) for node, count in counts.items()} == {
                node.membership.node_id: getattr(node, attribute)
                for node in self.nodes
                if getattr(node, attribute)
            }

    @invariant()
    def everybody_was_told_once(self) -> None:
        due, self.news = self.news, []
        assert self.do(self.heard) == due

    async def heard(self) -> list[tuple[str, str]]:
        listener = self.ground.listener
        heard: list[tuple[str, str]] = []
        await self.ground.redis.publish(self.bus, MARK)
        while True:
            got = await listener.get_message(ignore_subscribe_messages=True, timeout=10)
            if got is None or got["channel"] != self.bus.encode():
                continue
            if got["data"] == MARK:
                return heard
            message = decode(got["data"])
            if message.kind is Kind.FENCE:
                continue
            assert message.kind is Kind.ROSTER
            frame = message.frames[EVERYONE]
            for user in USERS:
                if frame == frames.member_added(ROSTER, member(user)):
                    assert message.exclude == "1.1"
                    heard.append(("added", user))
                elif frame == frames.member_removed(ROSTER, user):
                    heard.append(("removed", user))

    def teardown(self) -> None:
        """When all have left, nothing but the channel's own hash and the nodes' lists remains."""
        for node in self.nodes:
            for user in list(node.users):
                while node.users[user]:
                    node.users[user] -= 1
                    self.left(node, None if node.users[user] else user)
            node.plain = 0
            self.do(lambda node=node: node.membership.leave("1", PLAIN, 0))
        self.do(self.ground.listener.unsubscribe(self.bus))
        self.do(self.nothing_left)

    async def nothing_left(self) -> None:
        names = {
            name.decode() async for name in self.ground.redis.scan_iter(f"{self.keys.prefix}*")
        }
        parts = {name.rpartition("}")[2] for name in names if "{" in name}
        assert parts <= {"", ":counted"}
        await self.forget()


def test_rosters_and_counts_are_their_models(shared_server: Server) -> None:
    """Whatever happens, Redis holds what the nodes hold, and each change is reported once."""
    ground = Ground(shared_server.redis_url)
    try:
        run_state_machine_as_test(
            cast("type[Members]", lambda: Members(ground)),
            settings=settings(max_examples=35, stateful_step_count=30),
        )
    finally:
        ground.end()

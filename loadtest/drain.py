"""Subscribers in a process of their own: they read everything and count every frame.

The sending side's CPU is what is measured, so the reading side lives elsewhere. One reader serves
the server's WebSocket connections and the floor's bare TCP connections alike, because how fast
the peer reads decides part of what a `send` costs.
"""

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Never, TypeAlias, assert_never

import uvloop

from loadtest.hotel import Keys, rooms_channel
from loadtest.server import HOST, raise_open_files
from loadtest.subscriber import DrainFailed, Group, GroupReport, Subscriber, upgrade_request

CONNECTING_AT_ONCE = 64
CONNECT_DEADLINE_S = 30.0
REPLY_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Connect:
    """Open `count` subscribers as a named group; answered with None once all are ready.

    Without `keys` they are bare TCP connections, ready at once. `hotel` is whose staff they are;
    `subscribe` false leaves them authenticated and idle; `channel` is the hotel's rooms unless
    another is named.
    """

    group: str
    port: int
    count: int
    keys: Keys | None = None
    hotel: str = ""
    subscribe: bool = True
    channel: str = ""


@dataclass(frozen=True, slots=True)
class AwaitFrames:
    """Answer None once the group has received `total` event frames since it connected."""

    group: str
    total: int


@dataclass(frozen=True, slots=True)
class Report:
    """Ask for a group's `GroupReport`."""

    group: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close a group's connections; answered with None."""

    group: str


Command: TypeAlias = Connect | AwaitFrames | Report | Close
Reply: TypeAlias = GroupReport | str | None


class _Drain:
    """The process's own side of the pipe."""

    def __init__(self, control: Connection) -> None:
        self._control = control
        self._groups: dict[str, Group] = {}
        self._commands: asyncio.Queue[Command | None] = asyncio.Queue()

    async def run(self) -> None:
        """Obey commands until the other side goes away."""
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._read)
        while (command := await self._commands.get()) is not None:
            match command:
                case Connect():
                    await self._connect(command)
                case AwaitFrames():
                    self._groups[command.group].await_frames(command.total)
                case Report():
                    self._control.send(self._groups[command.group].report())
                case Close():
                    self._close(self._groups.pop(command.group))
                    self._control.send(None)
                case _:
                    assert_never(command)
        for group in self._groups.values():
            self._close(group)

    def _read(self) -> None:
        try:
            self._commands.put_nowait(self._control.recv())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._commands.put_nowait(None)

    async def _connect(self, command: Connect) -> None:
        group = self._groups[command.group] = Group(self._control)
        gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(command.count):
                    tasks.create_task(_open(group, command, number, gate))
        except* (DrainFailed, OSError, TimeoutError) as failed:
            first = failed.exceptions[0]
            self._control.send(f"not all could connect: {first!r}")
            self._close(group)
        else:
            group.opened()

    @staticmethod
    def _close(group: Group) -> None:
        group.live = False
        for subscriber in group.subscribers:
            subscriber.close()


async def _open(group: Group, command: Connect, number: int, gate: asyncio.Semaphore) -> None:
    request, channel = b"", ""
    loop = asyncio.get_running_loop()
    async with gate, asyncio.timeout(CONNECT_DEADLINE_S):
        if command.keys is not None:
            request = upgrade_request(command.keys, f"staff-{number}", command.hotel)
            channel = command.channel or rooms_channel(command.hotel) if command.subscribe else ""
        ready: asyncio.Future[None] = loop.create_future()
        subscriber = Subscriber(group, ready, request, channel)
        group.subscribers.append(subscriber)
        await loop.create_connection(lambda: subscriber, HOST, command.port)
        await ready


def _drain_process(control: Connection) -> None:
    raise_open_files()
    with suppress(BrokenPipeError):  # the measuring process gave up and has said why
        uvloop.run(_Drain(control).run())


@dataclass(frozen=True, slots=True)
class DrainClient:
    """The measuring process's side: every call returns once the drain has done it."""

    control: Connection

    def connect(self, command: Connect) -> None:
        """Open a group and wait until each of its subscribers is ready."""
        self._ask(command)

    def await_frames(self, group: str, total: int) -> None:
        """Wait until the group as a whole has received `total` event frames."""
        self._ask(AwaitFrames(group, total))

    def report(self, group: str, frames_each: int) -> GroupReport:
        """Get the counts, having made sure that every subscriber got the same and all of it."""
        report = self._ask(Report(group))
        if not isinstance(report, GroupReport):
            _fail(f"{group}: no report but {report!r}")
        exact = report.min_frames == report.max_frames == frames_each
        if not exact or report.min_bytes != report.max_bytes:
            _fail(f"{group}: expected {frames_each} frames each and equal bytes: {report}")
        return report

    def close(self, group: str) -> None:
        """Close a group's connections."""
        self._ask(Close(group))

    def _ask(self, command: Command) -> Reply:
        self.control.send(command)
        # Many connections take longer than one answer: about 200 a second is the slowest we bear.
        patience_s = REPLY_DEADLINE_S + (command.count / 200 if isinstance(command, Connect) else 0)
        if not self.control.poll(patience_s):
            _fail(f"nothing after {patience_s:.0f} s for {command}")
        try:
            reply: Reply = self.control.recv()
        except EOFError:
            reply = "the drain process ended early"
        if isinstance(reply, str):
            _fail(reply)
        return reply


def _fail(reason: str) -> Never:
    raise DrainFailed(reason)


@contextmanager
def drain_client() -> Iterator[DrainClient]:
    """Run a drain process until the block ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_drain_process, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield DrainClient(ours)
    finally:
        ours.close()
        process.join(timeout=10)
        if process.is_alive():
            process.kill()

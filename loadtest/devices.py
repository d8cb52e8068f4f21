"""Processes that hold the devices of a herd, and the measuring process's way to command them."""

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TypeAlias, assert_never

import uvloop

from loadtest.device import Device, Herd, drop
from loadtest.hotel import Keys
from loadtest.server import raise_open_files

CONNECTING_AT_ONCE = 64
PATIENCE_S = 120.0
_POLL_S = 0.005


class HerdFailed(Exception):
    """Not all came, or came back."""


@dataclass(frozen=True, slots=True)
class Come:
    """Connect devices, not too many at a time; answered with None when all are subscribed."""

    port: int
    keys: Keys
    numbers: range
    hotels: int
    on_shift: int
    """How many of each hotel are on its presence channel too."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Lose every connection at once; answered with None at once."""

    silently: bool


@dataclass(frozen=True, slots=True)
class Back:
    """Answer with a `Return` when no device is away."""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Answer None when every device has all events up to these numbers, by hotel."""

    numbers: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Leave:
    """Close every connection and stay away; answered with None."""


@dataclass(frozen=True, slots=True)
class Return:
    """What the devices of one process did since the last one."""

    greeted_at: list[float]
    back_at: list[float]
    counts: Counter[str]


Command: TypeAlias = Come | Cut | Back | CatchUp | Leave
Reply: TypeAlias = Return | str | None


class _Process:
    """The process's own side of the pipe."""

    def __init__(self, control: Connection) -> None:
        self._control = control
        self._herd = Herd(0)
        self._herd.changed = self._changed
        self._devices: list[Device] = []
        self._wants_back = False

    async def run(self) -> None:
        """Obey commands until the other side goes away."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                command: Command = await loop.run_in_executor(None, self._control.recv)
            except (EOFError, OSError):
                break
            await self._obey(command)
        self._leave()

    async def _obey(self, command: Command) -> None:
        match command:
            case Come():
                await self._come(command)
                self._control.send(None)
            case Cut(silently):
                self._control.send(None)
                for device in self._devices:
                    device.cut(silently=silently)
            case Back():
                self._wants_back = True
                self._changed()
            case CatchUp(numbers):
                self._herd.awaited = numbers
                self._herd.behind = sum(device.is_behind() for device in self._devices)
                self._changed()
            case Leave():
                self._leave()
                self._control.send(None)
            case _:
                assert_never(command)

    def _changed(self) -> None:
        herd = self._herd
        if self._wants_back and not herd.away:
            self._wants_back = False
            self._control.send(Return(herd.greeted_at, herd.back_at, herd.counts))
            herd.greeted_at, herd.back_at, herd.counts = [], [], Counter()
        if herd.awaited is not None and not herd.behind:
            herd.awaited = None
            self._control.send(None)

    async def _come(self, command: Come) -> None:
        self._herd.port = command.port
        gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
        loop = asyncio.get_running_loop()

        async def connect(number: int) -> None:
            hotel, place = number % command.hotels, number // command.hotels
            on_shift = place < command.on_shift
            device = Device(self._herd, command.keys, number, hotel, on_shift=on_shift)
            device.opened = loop.create_future()
            self._devices.append(device)
            async with gate:
                await device.connect()
                await device.opened

        async with asyncio.TaskGroup() as tasks:
            for number in command.numbers:
                tasks.create_task(connect(number))

    def _leave(self) -> None:
        self._herd.ended = True
        for transport in self._herd.left_open:
            drop(transport)
        for device in self._devices:
            device.cut(silently=False)


def _process(control: Connection) -> None:
    raise_open_files()
    with suppress(BrokenPipeError):  # the measuring process gave up and has said why
        uvloop.run(_Process(control).run())


class Devices:
    """All processes together, as the measuring process commands them."""

    def __init__(self, controls: Sequence[Connection]) -> None:
        self._controls = controls

    async def come(self, port: int, keys: Keys, count: int, hotels: int, on_shift: int) -> None:
        """Connect so many, and wait until all have their channels."""
        shares = len(self._controls)
        await self._ask(
            lambda share: Come(port, keys, range(share, count, shares), hotels, on_shift)
        )

    async def cut(self, *, silently: bool) -> None:
        """Lose every connection."""
        await self._ask(lambda _: Cut(silently))

    async def back(self) -> list[Return]:
        """Wait until nobody is away."""
        return [reply for reply in await self._ask(lambda _: Back()) if isinstance(reply, Return)]

    async def catch_up(self, numbers: Sequence[tuple[int, int]]) -> None:
        """Wait until everybody has all events up to these numbers."""
        await self._ask(lambda _: CatchUp(numbers))

    async def leave(self) -> None:
        """Have everybody go."""
        await self._ask(lambda _: Leave())

    async def _ask(self, command: Callable[[int], Command]) -> list[Reply]:
        answers: list[Awaitable[Reply]] = []
        for share, control in enumerate(self._controls):
            control.send(command(share))
            answers.append(_answer(control))
        try:
            async with asyncio.timeout(PATIENCE_S):
                replies = await asyncio.gather(*answers)
        except TimeoutError:
            raise HerdFailed(f"not done within {PATIENCE_S:.0f} s: {command(0)!r:.80}") from None
        return list(replies)


async def _answer(control: Connection) -> Reply:
    try:
        # Not by a reader of the loop: that makes the pipe non-blocking, and answers are long.
        while not control.poll():  # noqa: ASYNC110  there is no event of a pipe's
            await asyncio.sleep(_POLL_S)
        reply: Reply = control.recv()
    except (EOFError, OSError):
        raise HerdFailed("a process of the herd ended early") from None
    return reply


@contextmanager
def devices(processes: int) -> Iterator[Devices]:
    """Run the processes until the block ends."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        controls = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_process, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            stack.callback(_end, process, ours)
            controls.append(ours)
        yield Devices(controls)


def _end(process: multiprocessing.process.BaseProcess, control: Connection) -> None:
    control.close()
    process.join(timeout=10)
    if process.is_alive():
        process.kill()

"""Many stock clients: pusher-js in processes of Node.js, Pysher in threads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from tests.chaos.ledger import Ledger
from tests.chaos.links import Link
from tests.chaos.plan import Identity, Part, Person
from tests.clients.driver import own_token, websocket_options
from tests.clients.pysher_driver import PysherDriver
from tests.harness import APP_ID, APP_KEY, APP_SECRET, DEADLINE_S, eventually

_FLOCK: Final = Path(__file__).with_name("flock.cjs")
_PONG_MS: Final = 1_000
APP: Final = {"appId": APP_ID, "key": APP_KEY, "secret": APP_SECRET}


class _Host:
    """One process of Node.js, and the clients in it."""

    def __init__(self, process: asyncio.subprocess.Process, flock: Flock) -> None:
        self._process = process
        self._flock = flock
        self._reading = asyncio.create_task(self._read())

    def tell(self, do: str, who: int, **fields: Any) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        line = json.dumps({"do": do, "who": who, **fields})
        self._process.stdin.write(line.encode() + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            for report in json.loads(line):
                self._flock.take(*report)

    async def end(self) -> None:
        """End the process, and with it its clients."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert await asyncio.wait_for(self._process.wait(), DEADLINE_S) == 0
        await self._reading


class Flock:
    """The pusher-js of a run; what they report goes into the ledger."""

    def __init__(self, people: list[Person], links: list[Link], ledger: Ledger) -> None:
        self.people = people
        self.links = links
        self._ledger = ledger
        self._hosts: list[_Host] = []
        self.states: dict[int, str] = {}
        self.rosters: dict[tuple[int, str], list[str]] = {}
        self.connects = 0
        self.errors: Counter[str] = Counter()
        self.gone: set[int] = set()

    @contextlib.asynccontextmanager
    async def running(self, hosts: int) -> AsyncIterator[None]:
        """Run the clients around the body, in so many processes."""
        try:
            for _ in range(hosts):
                process = await asyncio.create_subprocess_exec(
                    "node",
                    str(_FLOCK),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=16 * 1024 * 1024,
                )
                self._hosts.append(_Host(process, self))
            yield
        finally:
            for host in self._hosts:
                await host.end()

    async def open(self) -> None:
        """Connect everybody, and await that all are subscribed to everything."""
        for person in self.people:
            for channel in person.channels:
                self._ledger.track(_name(person.who), channel, person.part)
            options = websocket_options(self.links[person.who].port)
            if not person.patient:
                options["pongTimeout"] = _PONG_MS
            signin = {"token": person.token, "sub": person.sub}
            self._host(person.who).tell(
                "open",
                person.who,
                app=APP,
                options={**options, "wsPath": person.path},
                channels=[*person.channels, *person.rosters],
                member={"user_id": person.sub, "user_info": {}},
                signed=[name for name in person.rosters if name.startswith("presence-lobby")],
                signin=signin if person.identity is Identity.SIGNIN else None,
            )
        await eventually(self._all_in, within_s=60)

    def _all_in(self) -> bool:
        return not self._ledger.faults and all(
            self._ledger.tracks[_name(person.who), channel].entered
            for person in self.people
            for channel in person.channels
        )

    def _host(self, who: int) -> _Host:
        return self._hosts[who % len(self._hosts)]

    def leave(self, who: int) -> None:
        """Have a client go for good."""
        self.gone.add(who)
        self._host(who).tell("leave", who)

    def here(self, part: Part) -> list[int]:
        """Return who is there of those with a part."""
        return [
            person.who
            for person in self.people
            if person.part is part and person.who not in self.gone
        ]

    def truth(self) -> dict[str, list[str]]:
        """Return who is on each presence channel."""
        truth: dict[str, set[str]] = {}
        for person in self.people:
            for channel in person.rosters:
                members = truth.setdefault(channel, set())
                if person.who not in self.gone:
                    members.add(person.sub)
        return {channel: sorted(members) for channel, members in truth.items()}

    async def ask_rosters(self) -> dict[tuple[int, str], list[str]]:
        """Ask every client who it believes is there."""
        self.rosters = {}
        asked = [
            (person.who, channel)
            for person in self.people
            if person.who not in self.gone
            for channel in person.rosters
        ]
        for who, channel in asked:
            self._host(who).tell("roster", who, channel=channel)
        await eventually(lambda: len(self.rosters) == len(asked))
        return self.rosters

    def take(self, what: str, who: int, at_ms: int, *rest: Any) -> None:
        """Note one report."""
        if what == "thrown":
            self._ledger.fault(f"a client threw: {rest}")
            return
        name, person = _name(who), self.people[who]
        match what, rest:
            case "state", (state,):
                self.states[who] = state
                self.connects += state == "connected"
            case "error", (code, _):
                self.errors[str(code)] += 1
            case "roster", (channel, ids):
                self.rosters[who, channel] = sorted(ids)
            case _, (index, *told) if index < len(person.channels):
                self._heard(what, name, person.channels[index], at_ms, told)
            case "refused", (index, why):
                self._ledger.fault(f"{name} was refused its roster {index}: {why}")
            case _:
                pass

    def _heard(self, what: str, name: str, channel: str, at_ms: int, told: list[Any]) -> None:
        match what, told:
            case "event", (event_id, epoch, number):
                self._ledger.heard(name, channel, event_id, epoch, number)
            case "in", (heard_ms,):
                self._ledger.entered(name, channel, at_ms, heard_ms)
            case "gap", (reason, since):
                self._ledger.gap(name, channel, at_ms, {"reason": reason, "since": since})
            case "refused", (why,):
                self._ledger.fault(f"{name} was refused {channel}: {why}")
            case _:
                self._ledger.fault(f"{name} says {what} of {channel}: {told}")


def _name(who: int) -> str:
    return f"pusher-js {who}"


class Pyshers:
    """The Pyshers of a run, each on a hotel's rooms; they get no time to be idle."""

    def __init__(self, channels: list[str], links: list[Link], ledger: Ledger) -> None:
        self._channels = channels
        self._links = links
        self._ledger = ledger
        self._drivers = [PysherDriver() for _ in channels]
        self._read = [0] * len(channels)
        self._heard_ms = [0] * len(channels)
        self._before_ms = [0] * len(channels)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run them around the body."""
        taking = asyncio.create_task(self._take_on())
        try:
            for number, (driver, channel) in enumerate(self._each()):
                self._ledger.track(f"Pysher {number}", channel, Part.STAYS)
                user, port = f"pysher-{number}", self._links[number].port
                hotel, _, _ = channel.partition(".")
                own = own_token(user, hotels=[hotel], exp=int(time.time()) + 3600)
                await driver.driven.tell("open", key=APP_KEY, port=port, user=user, token=own)
                events = ("room_updated", "bellhop:gap")
                await driver.driven.tell("subscribe", channel=channel, events=events)
            await eventually(self._all_in)
            yield
        finally:
            for driver in self._drivers:
                await driver.driven.tell("disconnect")
            taking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await taking

    def _each(self) -> Iterator[tuple[PysherDriver, str]]:
        return iter(zip(self._drivers, self._channels, strict=True))

    def _all_in(self) -> bool:
        return all(
            self._ledger.tracks[f"Pysher {number}", channel].entered
            for number, channel in enumerate(self._channels)
        )

    async def _take_on(self) -> None:
        while True:
            for number in range(len(self._channels)):
                self._take(number)
            await asyncio.sleep(0.05)

    def _take(self, number: int) -> None:
        reports = self._drivers[number].driven.reports
        fresh, now = reports[self._read[number] :], round(time.time() * 1000)
        self._read[number] += len(fresh)
        name, channel = f"Pysher {number}", self._channels[number]
        for report in fresh:
            match report:
                case {"what": "state"}:
                    self._before_ms[number] = self._heard_ms[number]
                case {"what": "event", "event": "pusher:subscription_succeeded"}:
                    self._ledger.entered(name, channel, now, self._before_ms[number])
                case {"what": "event", "event": "bellhop:gap", "data": told}:
                    self._ledger.gap(name, channel, now, told)
                case {"what": "event", "event": "room_updated", "data": {"meta": meta}}:
                    place = meta["epoch"], meta["sequence"]
                    self._ledger.heard(name, channel, meta["event_id"], *place)
                    self._heard_ms[number] = now
                case _:
                    pass

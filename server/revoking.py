"""Revocations among the nodes: kept in Redis, told to every node, applied to live connections."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from typing import Final

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from auth.revocations import Revocation, Revocations, Revoked
from server.audit import Audit
from server.broker.keys import Keys
from server.cancellation import raise_if_cancelled
from server.docket import Docket, Place
from server.errors import BrokerRefused, BrokerUnavailable

MAX_REVOCATIONS: Final = 100_000
MAX_VALUE: Final = 512
"""Characters of what a revocation names."""
_PRUNE_S: Final = 300.0
_TURN_S: Final = 2.0
"""How long a request waits for what was PUBLISHed before it."""

log = structlog.get_logger()


class BadRevocation(ValueError):
    """What came names nothing that can be revoked; whoever asked is told why."""


class Revoking:
    """Writes revocations, hears of those of other nodes, and has them applied here."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        revocations: Revocations,
        *,
        lasts_s: float,
        apply: Callable[[], None],
        audit: Audit | None = None,
    ) -> None:
        """Create the node's part.

        Args:
            redis: where revocations are kept.
            keys: their names.
            revocations: what the node's connections are judged by; kept up to date here.
            lasts_s: for how long a revocation is in force.
            apply: has every live connection judged anew.
            audit: is told of what changes.

        """
        self._redis = redis
        self._keys = keys
        self._revocations = revocations
        self._lasts_s = lasts_s
        self._apply = apply
        self._audit = audit or Audit()
        source = files("server.broker").joinpath("scripts/revoke.lua").read_text("utf-8")
        self._script = redis.register_script(source)
        self.docket = Docket(redis, keys)
        """What came by PUBLISH."""
        self._timers: dict[float, asyncio.TimerHandle] = {}
        self._meanwhile: list[Callable[[], None]] = []
        """What was heard while everything was being read; it may be newer than what was read."""
        self.loaded = False
        """Whether this node has read what is revoked since it last heard from Redis."""

    # --- writing ---------------------------------------------------------------------------------

    async def revoke(
        self,
        what: Revoked,
        value: str,
        *,
        after_s: float = 0.0,
        same_s: float = 0.0,
        place: Place | None = None,
        entrance: str = "http",
    ) -> str:
        """Revoke on every node and return the revocation's id; may raise `BrokerUnavailable`.

        What is said again within ``same_s`` is the same revocation. Where what came at that
        ``place`` or later has been done already, nothing is done, and there is no id.
        """
        new_id = secrets.token_hex(8)
        in_force, _ = await self._call(
            what, value, new_id, after_s=after_s, same_s=same_s, place=place
        )
        if in_force == new_id:
            fields = {"what": what.value, "value": value, "revocation": new_id}
            self._audit.note("revoke", outcome="revoked", entrance=entrance, **fields)
        return in_force

    async def lift(
        self, what: Revoked, value: str, *, place: Place | None = None, entrance: str = "http"
    ) -> None:
        """End a revocation on every node; may raise `BrokerUnavailable`."""
        _, lifted = await self._call(what, value, "", place=place)
        if lifted:
            fields = {"what": what.value, "value": value}
            self._audit.note("revoke", outcome="lifted", entrance=entrance, **fields)

    async def obey(self, asked: Mapping[str, object], place: Place | None = None) -> str:
        """Do what a backend asks for (`{"sub": ...}`, `"undo": true` to lift); return the id.

        What came by PUBLISH has a ``place``; anything else is done after all that was PUBLISHed
        before it came.

        Raises:
            BadRevocation: it names nothing, or more than one thing.
            BrokerUnavailable: Redis does not answer.

        """
        what, value = read_revocation(asked)
        entrance = "http" if place is None else "redis"
        if place is None:
            await self._turn()
        if asked.get("undo") is True:
            await self.lift(what, value, place=place, entrance=entrance)
            return ""
        return await self.revoke(what, value, place=place, entrance=entrance)

    async def _turn(self) -> None:
        try:
            if not await self.docket.turn(_TURN_S):
                # A node that does not hear Redis may still write: what must end is not kept up.
                log.warning("revocation.out_of_turn")
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {type(error).__name__}") from None

    async def _call(
        self,
        what: Revoked,
        value: str,
        new_id: str,
        *,
        after_s: float = 0.0,
        same_s: float = 0.0,
        place: Place | None = None,
    ) -> tuple[str, bool]:
        """Call the script; return the id in force, and whether anything has changed."""
        arguments = [
            what.value,
            value,
            new_id,
            after_s,
            self._lasts_s,
            self._keys.control,
            MAX_REVOCATIONS,
            same_s,
            *(place or ("", "")),
        ]
        keys = [self._keys.revocations, self.docket.key]
        try:
            answer = await self._script(keys=keys, args=arguments)
        except ResponseError as error:
            raise BrokerRefused(f"Redis: {error}") from None
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {type(error).__name__}") from None
        match answer:
            case [1, bytes(in_force), changed]:
                log.info("revocation.written" if new_id else "revocation.lifted", what=what.value)
                return in_force.decode(), changed == 1
            case [0]:
                raise BrokerRefused(f"there are {MAX_REVOCATIONS} revocations already")
            case _:
                return "", False

    # --- hearing ---------------------------------------------------------------------------------

    def hear(self, entry: Mapping[str, object]) -> None:
        """Take a revocation that some node wrote."""
        revocation = _revocation(entry)
        if revocation is not None:
            self._meanwhile.append(partial(self._revocations.put, revocation))
            self._revocations.put(revocation)
            self._apply_at(revocation.at)

    def hear_lifted(self, what: str, value: str) -> None:
        """Take that some node lifted one."""
        if what in {known.value for known in Revoked}:
            self._meanwhile.append(partial(self._revocations.lift, Revoked(what), value))
            self._revocations.lift(Revoked(what), value)
            self._apply()

    async def load(self) -> None:
        """Read everything that is revoked; may raise redis-py's errors.

        Whoever was cut off from Redis does this before it delivers anything again.
        """
        self._meanwhile.clear()
        found = await self._redis.hgetall(self._keys.revocations)
        entries = [_revocation(_decoded(text)) for text in found.values()]
        known = [each for each in entries if each is not None]
        self._revocations.replace(known)
        for again in self._meanwhile:
            again()
        self._meanwhile.clear()
        self.loaded = True
        for at in {each.at for each in known if each.at > time.time()}:
            self._apply_at(at)
        self._apply()

    async def run(self) -> None:
        """Remove what is in force no more, until cancelled."""
        while True:
            await asyncio.sleep(_PRUNE_S)
            self._meanwhile.clear()
            try:
                await self._prune()
            except (RedisError, OSError):
                continue
            raise_if_cancelled()

    async def _prune(self) -> None:
        now = time.time()
        self._revocations.forget_ended(now)
        found = await self._redis.hgetall(self._keys.revocations)
        ended = [
            name
            for name, text in found.items()
            if (entry := _revocation(_decoded(text))) is None or entry.until <= now
        ]
        if ended:
            await self._redis.hdel(self._keys.revocations, *ended)

    def _apply_at(self, at: float) -> None:
        wait = at - time.time()
        if wait <= 0:
            self._apply()
        elif at not in self._timers:
            loop = asyncio.get_running_loop()
            # Timers of uvloop may be early by a millisecond or two: nothing would be in force yet.
            self._timers[at] = loop.call_later(wait + 0.01, self._apply_now, at)

    def _apply_now(self, at: float) -> None:
        self._timers.pop(at, None)
        self._apply()


def read_revocation(asked: Mapping[str, object]) -> tuple[Revoked, str]:
    """Read what is to be revoked; raises `BadRevocation`."""
    named = [what for what in _ASKED if asked.get(what.value) is not None]
    if len(named) != 1:
        raise BadRevocation("name one of sub, jti, hotel and role")
    value = asked[named[0].value]
    if not isinstance(value, str) or not 0 < len(value) <= MAX_VALUE:
        raise BadRevocation(f"{named[0]} must be a string of 1 to {MAX_VALUE} characters")
    return named[0], value


_ASKED: Final = (Revoked.SUB, Revoked.JTI, Revoked.HOTEL, Revoked.ROLE)


def _decoded(text: bytes | str) -> Mapping[str, object]:
    try:
        decoded = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _revocation(entry: Mapping[str, object]) -> Revocation | None:
    match entry:
        case {
            "id": str(id_),
            "what": str(what),
            "value": str(value),
            "at": int() | float() as at,
            "until": int() | float() as until,
        } if what in {known.value for known in Revoked}:
            before = entry.get("before")
            earlier = before if isinstance(before, int | float) else None
            return Revocation(id_, Revoked(what), value, at, until, earlier)
        case _:
            return None

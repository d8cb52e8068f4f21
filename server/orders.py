"""What every node must do when it is told: end a user's connections, revoke, lift."""

from __future__ import annotations

import asyncio
from typing import Final

import orjson
import structlog

from auth.revocations import Revoked
from channels_spec.pusher import CloseCode
from server.broker.message import Stay
from server.cancellation import raise_if_cancelled
from server.docket import Asked
from server.errors import BrokerRefused, BrokerUnavailable
from server.hub import Hub
from server.resuming import Resuming
from server.revoking import MAX_VALUE, BadRevocation, Revoking

_MAX_WAITING: Final = 1_000
"""Check-outs that wait to be written."""
CHECK_OUT_S: Final = 30.0
"""How long a guest still hears their channel after staff are told of the check-out."""
_RETRY_S: Final = 1.0
_SAME_STAY_S: Final = 60.0
"""Staff may be told of a check-out after the guest was."""

log = structlog.get_logger()


class Orders:
    """Obeys the orders that come over the bus."""

    def __init__(self, hub: Hub, revoking: Revoking, resuming: Resuming) -> None:
        self._hub = hub
        self._revoking = revoking
        self._resuming = resuming
        self._stays: asyncio.Queue[Stay] = asyncio.Queue(_MAX_WAITING)

    def order(self, order: bytes) -> None:
        """Obey an order that another node gave."""
        match _decoded(order):
            case {"terminate": {"app": str(app_id), "user": str(user_id)}}:
                self._terminate(app_id, user_id)
            case {"revoke": dict(entry)}:
                self._revoking.hear(entry)
            case {"mark": int(mark)}:
                self._revoking.docket.mark(mark)
            case {"draining": str(node_id)}:
                self._resuming.probing.draining.add(node_id)
            case {"probe": str(socket_id)}:
                self._resuming.probing.ask(socket_id)
            case {"alive": str(socket_id)}:
                self._resuming.probing.lives(socket_id)
            case {"lift": {"what": str(what), "value": str(value)}}:
                self._revoking.hear_lifted(what, value)
            case _:
                log.warning("order.unknown")

    def revocation(self, asked: bytes) -> None:
        """Take what a backend wants revoked; `run` writes it."""
        self._revoking.docket.hear(asked)

    def check_out(self, stay: Stay) -> None:
        """End a guest's access; `run` sees to it."""
        try:
            self._stays.put_nowait(stay)
        except asyncio.QueueFull:
            log.error("stay.not_ended", waiting=_MAX_WAITING)

    def lost(self) -> None:
        """Learn that something may be missed from now on."""
        self._revoking.docket.deaf()

    async def catch_up(self) -> None:
        """Read what was revoked meanwhile."""
        await self._revoking.load()

    async def run(self) -> None:
        """Write what backends want revoked, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._revoking.docket.run())
            tasks.create_task(self._revoke())
            tasks.create_task(self._end_stays())

    async def _end_stays(self) -> None:
        while True:
            stay = await self._stays.get()
            value = f"{stay.hotel_slug}/{stay.booking_id}"[:MAX_VALUE]
            after_s = 0.0 if stay.guest_is_told else CHECK_OUT_S
            while True:
                try:
                    await self._revoking.revoke(
                        Revoked.BOOKING,
                        value,
                        after_s=after_s,
                        same_s=_SAME_STAY_S,
                        entrance="event",
                    )
                    break
                except BrokerUnavailable as error:
                    log.warning("stay.not_yet_ended", reason=str(error))
                    await asyncio.sleep(_RETRY_S)
            raise_if_cancelled()

    async def _revoke(self) -> None:
        while True:
            asked = await self._revoking.docket.next()
            while not await self._written(asked):  # noqa: ASYNC110  nothing says when Redis is back
                await asyncio.sleep(_RETRY_S)
            raise_if_cancelled()

    async def _written(self, asked: Asked) -> bool:
        """Write one message, or give it up; False where it should be tried again."""
        body = _decoded(asked.body)
        try:
            await self._revoking.obey(body if isinstance(body, dict) else {}, asked.place)
        except BadRevocation as error:
            log.warning("revocation.refused", reason=str(error))
        except BrokerRefused as error:
            log.error("revocation.lost", reason=str(error))
        except BrokerUnavailable as error:
            # Whatever was asked for later stands behind it.
            log.warning("revocation.waits", reason=str(error))
            return False
        return True

    def _terminate(self, app_id: str, user_id: str) -> None:
        for session in list(self._hub.sessions.values()):
            if session.app_id == app_id and session.is_of(user_id):
                session.end(CloseCode.UNAUTHORIZED, "the backend ended this user's connections")


def _decoded(text: bytes) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None

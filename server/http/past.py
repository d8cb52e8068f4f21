"""What a channel has carried, over HTTP; ours, not Pusher's."""

from __future__ import annotations

import re
from typing import Final

import orjson

from channels_spec.pusher import is_channel_name
from server.broker.message import BusMessage
from server.history import ChannelHistory
from server.http.answers import Refused
from server.http.replies import Reply, reply
from server.http.signed import SignedRequest

_SINCE: Final = re.compile(r"(?P<epoch>[0-9A-Za-z]{1,64}):(?P<sequence>[0-9]{1,18})", re.ASCII)
_MOST: Final = 1_000
_LIMIT: Final = 100


class PastEvents:
    """The endpoint that reads a channel's history; in its fullest view, for backends."""

    def __init__(self, history: ChannelHistory) -> None:
        self._history = history

    async def events(self, request: SignedRequest) -> Reply:
        """Answer the events after `since=EPOCH:SEQUENCE`, oldest first, at most `limit`.

        `complete` is false where something between them and `since` is not kept any more.
        """
        (channel,) = request.names
        if not is_channel_name(channel):
            raise Refused(400, "not a channel name")
        since = request.parameter("since")
        epoch, sequence = ("", 0) if since is None else position(since, "since")
        limit = _limit(request.parameter("limit"))
        carried = await self._history.since(request.app.id, channel, 0)
        gap = None
        if epoch:
            gap = self._history.gap_by_number(epoch, sequence, carried)
        after = sequence if epoch == carried.epoch else 0
        events = [_event(message) for message in carried.messages if message.number > after]
        return reply(
            {
                "epoch": carried.epoch,
                "sequence": carried.number,
                "complete": gap is None,
                "events": events[:limit],
            }
        )


def fullest(message: BusMessage) -> bytes:
    """Return an event's frame in the fullest view that it has."""
    # The least view is the first. The contract may have had other views when it was published.
    *_, frame = message.frames.values()
    return frame


def position(given: str, name: str) -> tuple[str, int]:
    """Return the epoch and the number that a request says it has; refuses anything else."""
    found = _SINCE.fullmatch(given)
    if found is None:
        raise Refused(400, f"{name} is EPOCH:SEQUENCE, as events carry them")
    return found["epoch"], int(found["sequence"])


def _event(message: BusMessage) -> dict[str, object]:
    frame = orjson.loads(fullest(message))
    return {
        "event": frame["event"],
        "data": frame["data"],
        "event_id": message.event_id,
        "epoch": message.epoch,
        "sequence": message.number,
        "time_ms": message.time_ms,
    }


def _limit(given: str | None) -> int:
    if given is None:
        return _LIMIT
    if not given.isascii() or not given.isdigit() or not 0 < int(given[:9]) <= _MOST:
        raise Refused(400, f"limit is a whole number from 1 to {_MOST}")
    return int(given)

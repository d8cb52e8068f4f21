"""Publishing by HTTP: what is posted is checked whole before any of it goes out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from channels_spec.pusher import MAX_CHANNELS_PER_TRIGGER
from server.broker.interface import Receipt
from server.broker.message import Publication
from server.broker.occupancy import Attribute, Occupancy, Value
from server.encoding import Event
from server.errors import BrokerUnavailable, PublishRefused
from server.http.answers import Refused
from server.http.info import applies, attributes, shown
from server.http.replies import Headers, Reply, reply
from server.http.signed import MAX_KEY, SignedRequest
from server.publisher import Publisher

MAX_BATCH: Final = 10
_MAX_NAMED: Final = 1_000
"""Entries of `channels`, whatever they repeat."""
_PARAMETERS: Final = frozenset({"name", "data", "channel", "channels", "socket_id", "info"})
_PLAIN_QUERY: Final = 5
"""Pairs of a query that holds nothing but what belongs to the signature."""
_INFO: Final = (Attribute.USER_COUNT, Attribute.SUBSCRIPTION_COUNT)


@dataclass(slots=True)
class _Trigger:
    """One event as it was posted, for one channel or several."""

    events: list[Event]
    info: tuple[Attribute, ...]


class Events:
    """The endpoints that publish."""

    def __init__(self, publisher: Publisher, occupancy: Occupancy) -> None:
        self._publisher = publisher
        self._occupancy = occupancy

    async def trigger(self, request: SignedRequest) -> Reply:
        """`POST /events`: one event on its channels."""
        key = request.idempotency_key()
        trigger = _trigger(request.app.id, _given(request), key)
        publications = [self._publisher.encode(event) for event in trigger.events]
        self._publisher.count(publications)
        if not trigger.info:
            return Reply(200, b"{}", _receipt_headers(await self._publish(publications)))
        counts = await self._counts(request.app.id, [trigger])
        receipts = await self._publish(publications)
        channels = [event.channel for event in trigger.events]
        content = {"channels": dict(zip(channels, map(shown, counts), strict=True))}
        return reply(content, headers=_receipt_headers(receipts))

    async def batch(self, request: SignedRequest) -> Reply:
        """`POST /batch_events`: up to ten events, each on one channel."""
        key = request.idempotency_key(MAX_KEY - len("-9"))
        triggers: list[_Trigger] = []
        publications: list[Publication] = []
        for index, given in enumerate(_batch(request.json())):
            try:
                trigger = _trigger(request.app.id, given, f"{key}-{index}" if key else "")
                publications += [self._publisher.encode(event) for event in trigger.events]
            except (Refused, PublishRefused) as refused:
                refused.reason = f"event {index} of the batch: {refused.reason}"
                raise
            triggers.append(trigger)
        self._publisher.count(publications)
        if not any(trigger.info for trigger in triggers):
            return Reply(200, b"{}", _receipt_headers(await self._publish(publications)))
        counts = await self._counts(request.app.id, triggers)
        receipts = await self._publish(publications)
        return reply({"batch": list(map(shown, counts))}, headers=_receipt_headers(receipts))

    async def trigger_on_channel(self, request: SignedRequest) -> Reply:
        """`POST /channels/{name}/events`, as before 2012: the body is the data itself."""
        if not request.body:
            raise Refused(400, "data is missing: it is the request's body")
        try:
            data = request.body.decode()
        except UnicodeDecodeError:
            raise Refused(400, "the body is not valid UTF-8") from None
        (channel,) = request.names
        given: dict[str, object] = {
            "name": request.parameter("name"),
            "data": data,
            "channel": channel,
            "socket_id": request.parameter("socket_id"),
        }
        trigger = _trigger(request.app.id, given, request.idempotency_key())
        publications = list(map(self._publisher.prepare, trigger.events))
        return Reply(202, b"{}", _receipt_headers(await self._publish(publications)))

    async def _publish(self, publications: Sequence[Publication]) -> list[Receipt]:
        """Publish all, in order."""
        futures = [self._publisher.publish(publication) for publication in publications]
        try:
            if len(futures) == 1:
                return [await futures[0]]
            return await asyncio.gather(*futures)
        except BrokerUnavailable as error:
            raise BrokerUnavailable(f"the event was not published: {error}") from None

    async def _counts(
        self, app_id: str, triggers: Sequence[_Trigger]
    ) -> list[dict[Attribute, Value]]:
        """Return what `info` asks, event by event.

        Asked before publishing, so that nothing is half done when Redis does not answer.
        """
        asked = [
            # An event may go to channels of all kinds: each tells what it has.
            (event.channel, [each for each in trigger.info if applies(each, event.channel)])
            for trigger in triggers
            for event in trigger.events
        ]
        return await self._occupancy.values(app_id, asked)


def _given(request: SignedRequest) -> dict[str, object]:
    """Return the parameters: those of the body, and of the query what the body has not."""
    given = request.json() if request.body else {}
    if len(request.query) == _PLAIN_QUERY:
        return given
    lists: dict[str, list[str]] = {}
    for name, value in request.query:
        base, bracket, _ = name.partition("[")
        if base not in _PARAMETERS or base in given:
            continue
        if bracket:
            lists.setdefault(base, []).append(value)
        else:
            given[base] = value
    return {**lists, **given}


def _batch(body: dict[str, object]) -> list[dict[str, object]]:
    batch = body.get("batch")
    if not isinstance(batch, list):
        raise Refused(400, "batch must be a list of events")
    if len(batch) > MAX_BATCH:
        raise Refused(400, f"a batch has at most {MAX_BATCH} events")
    for index, given in enumerate(batch):
        if not isinstance(given, dict):
            raise Refused(400, f"event {index} of the batch: not a JSON object")
        if not isinstance(given.get("channel"), str) or "channels" in given:
            raise Refused(400, f"event {index} of the batch: channel must be one channel's name")
    return batch


def _trigger(app_id: str, given: dict[str, object], event_id: str) -> _Trigger:
    """Read an event; ``event_id`` is what it is known by where it has no id of its own."""
    name, data, socket_id = given.get("name"), given.get("data"), given.get("socket_id")
    if not isinstance(name, str) or not name:
        raise Refused(400, "name must be the event's name")
    if data is None:
        raise Refused(400, "data is missing")
    if socket_id is not None and not isinstance(socket_id, str):
        raise Refused(400, "socket_id must be a string")
    channels = given.get("channels", given.get("channel"))
    if isinstance(channels, str):
        channels = [channels]
    if not isinstance(channels, list) or not all(isinstance(channel, str) for channel in channels):
        raise Refused(400, "channels must be a list of channel names")
    if len(channels) > _MAX_NAMED:
        raise Refused(400, f"channels may have {_MAX_NAMED:,} entries, repeated ones included")
    if len(channels) > 1:
        channels = list(dict.fromkeys(channels))
    if not 0 < len(channels) <= MAX_CHANNELS_PER_TRIGGER:
        raise Refused(400, f"an event goes to 1 to {MAX_CHANNELS_PER_TRIGGER} channels")
    events = [Event(app_id, channel, name, data, socket_id or "", event_id) for channel in channels]
    return _Trigger(events, attributes(given.get("info"), _INFO))


def _receipt_headers(receipts: Sequence[Receipt]) -> Headers:
    if not receipts:
        return ()
    ids = [receipt.event_id for receipt in receipts]
    # One contract event on several channels has one id, and a number on each.
    if len(set(ids)) == 1:
        del ids[1:]
    numbers = [str(receipt.sequence) for receipt in receipts]
    return (
        (b"Bellhop-Event-Id", ",".join(ids).encode()),
        (b"Bellhop-Sequence", ",".join(numbers).encode()),
    )

"""The one entrance for an event: checked, viewed, encoded once, handed to the broker.

Whatever way an event came (Redis, HTTP), this is where it is decided whether and as what it goes
out.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final

import orjson

from channels_spec.cards import may_hold_cards, without_cards
from channels_spec.contract import ChannelMatch, Contract
from channels_spec.envelope import (
    Normalized,
    NotAcceptable,
    conflation_key,
    normalize,
    scope_values,
)
from channels_spec.faults import Fault, pointer
from channels_spec.pusher import (
    MAX_EVENT_DATA,
    MAX_EVENT_NAME,
    RESERVED_EVENT_PREFIXES,
    SOCKET_ID,
    is_channel_name,
)
from channels_spec.validate import MAX_FAULTS
from channels_spec.views import PLAIN_VIEW, viewed
from server.broker.interface import Broker, Receipt
from server.broker.message import Publication, SplicedFrame
from server.errors import PublishRefused


class ContractMode(StrEnum):
    """What becomes of an event whose shape breaks the contract."""

    ENFORCE = "enforce"
    WARN = "warn"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it entered."""

    app_id: str
    channel: str
    name: str | None
    """The Pusher event name; ``None`` where the body is an envelope that names itself."""
    data: object
    """Decoded JSON, or the very string that a backend gave as Pusher data."""
    exclude: str = ""
    """The socket_id that must not get it."""


class Publisher:
    """Turns events into publications."""

    def __init__(
        self,
        contract: Contract,
        broker: Broker,
        *,
        mode: ContractMode,
        serves_unlisted: bool,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._contract = contract
        self._broker = broker
        self._mode = mode
        self._serves_unlisted = serves_unlisted
        self._clock = clock
        self.published: Counter[str] = Counter()
        """Events published and duplicates, by outcome."""
        self.violations: Counter[tuple[str, str, str]] = Counter()
        """Contract violations and warnings that were let through, by (hotel, event, pointer)."""

    def prepare(self, event: Event) -> Publication:
        """Check, view and encode an event; raises `PublishRefused`."""
        if not is_channel_name(event.channel):
            raise PublishRefused(
                400, "not a channel name: at most 200 of A-Z a-z 0-9 _ - = @ , . ;"
            )
        if event.name is not None:
            _check_name(event.name)
        if event.exclude and not SOCKET_ID.fullmatch(event.exclude):
            raise PublishRefused(400, "socket_id must look like 123.456")
        match = self._contract.match(event.channel)
        if match is not None:
            return self._contract_event(event, match)
        if not self._serves_unlisted and not event.channel.startswith("#"):
            raise PublishRefused(403, f"the channel {event.channel} is not in the contract")
        return _plain(event)

    def publish(self, publication: Publication) -> asyncio.Future[Receipt]:
        """Hand a prepared event to the broker; the future may raise `BrokerUnavailable`."""
        future = self._broker.publish(publication)
        future.add_done_callback(self._published)
        return future

    def _published(self, future: asyncio.Future[Receipt]) -> None:
        if future.cancelled():
            return
        if future.exception() is not None:
            self.published["failed"] += 1
        else:
            self.published["duplicate" if future.result().duplicate else "published"] += 1

    def _contract_event(self, event: Event, match: ChannelMatch) -> Publication:
        body = _decoded(event.data)
        try:
            normalized = normalize(
                match,
                event.name,
                body,
                new_id=_new_id,
                now=self._now,
            )
        except NotAcceptable as error:
            raise PublishRefused(422, str(error), error.faults) from None
        _check_name(normalized.event)
        text = _encoded(normalized.body)
        _check_size(text)
        if may_hold_cards(text, normalized.event_id):
            normalized = _without_cards(normalized)
            text = _encoded(normalized.body)
        if normalized.violations and self._mode is ContractMode.ENFORCE:
            reason = "; ".join(map(str, normalized.violations))
            raise PublishRefused(422, reason, normalized.violations)
        self._count(normalized)
        return _publication(event, match, normalized, text)

    def _now(self) -> str:
        return self._clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _count(self, normalized: Normalized) -> None:
        if self._mode is ContractMode.OFF:
            return
        for fault in (*normalized.violations, *normalized.warnings):
            if len(self.violations) < _MAX_COUNTED:
                self.violations[normalized.hotel_slug, normalized.event, fault.pointer] += 1


_MAX_COUNTED: Final = 10_000
"""Distinct (hotel, event, pointer) that are counted: a producer chooses two of them."""


def _new_id() -> str:
    return str(uuid.uuid4())


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_EVENT_NAME:
        raise PublishRefused(400, f"an event's name has 1 to {MAX_EVENT_NAME} characters")
    if name.startswith(RESERVED_EVENT_PREFIXES):
        raise PublishRefused(400, "event names that start with pusher: are reserved")


def _decoded(data: object) -> object:
    if not isinstance(data, str):
        return data
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        raise PublishRefused(422, "data of a contract channel must be a JSON object") from None


def _without_cards(normalized: Normalized) -> Normalized:
    """Mask card data, which passes in no mode; that it was there is a violation."""
    exempt = normalized.spec.not_cards if normalized.spec is not None else frozenset[str]()
    body, paths = without_cards(normalized.body, exempt)
    if not paths or not isinstance(body, dict):
        return normalized
    faults = [Fault(pointer(path), "holds card data") for path in paths[:MAX_FAULTS]]
    return replace(normalized, body=body, violations=(*normalized.violations, *faults))


def _publication(
    event: Event, match: ChannelMatch, normalized: Normalized, full: str
) -> Publication:
    """Encode what each view sees; ``full`` is the whole body's JSON."""
    seen = viewed(match.family, normalized.spec, normalized.body, full)
    make = _numbered_frame if normalized.enveloped else _frame
    return Publication(
        app_id=event.app_id,
        channel=event.channel,
        event_id=normalized.event_id,
        frames=tuple(
            make(
                normalized.event, event.channel, full if body is normalized.body else _encoded(body)
            )
            for body in seen.bodies
        ),
        views=seen.views,
        hotel_slug=normalized.hotel_slug,
        exclude=event.exclude,
        conflation_key=conflation_key(normalized),
        filter_values=scope_values(normalized.body),
        numbered=normalized.enveloped,
    )


def _plain(event: Event) -> Publication:
    """Encode an event of a channel outside the contract: the publisher's string, untouched."""
    if event.name is None:
        raise PublishRefused(400, "outside the contract an event needs a name: {event, data}")
    data = event.data if isinstance(event.data, str) else _encoded(event.data)
    _check_size(data)
    return Publication(
        app_id=event.app_id,
        channel=event.channel,
        event_id=_new_id(),
        frames=(_frame(event.name, event.channel, data),),
        views=((PLAIN_VIEW, 0),),
        exclude=event.exclude,
    )


def _check_size(data: str) -> None:
    # The first comparison spares encoding what is far too long.
    if len(data) > MAX_EVENT_DATA or len(data.encode()) > MAX_EVENT_DATA:
        raise PublishRefused(413, f"the event exceeds the allowed maximum ({MAX_EVENT_DATA} bytes)")


def _encoded(body: object) -> str:
    try:
        return orjson.dumps(body).decode()
    except (TypeError, RecursionError) as error:
        raise PublishRefused(422, f"the body cannot be encoded: {error}") from None


@lru_cache(maxsize=4096)
def _prefix(event: str, channel: str) -> bytes:
    return orjson.dumps({"event": event, "channel": channel})[:-1] + b',"data":'


def _frame(event: str, channel: str, data: str) -> SplicedFrame:
    return SplicedFrame(_prefix(event, channel) + orjson.dumps(data) + b"}")


_AFTER_NUMBER: Final = b'\\"}}"}'
"""The end of data's meta and envelope, and of the frame: after the epoch's text."""


def _numbered_frame(event: str, channel: str, envelope: str) -> SplicedFrame:
    """Split a frame where its number goes: meta is last in the envelope, and never empty."""
    head = orjson.dumps(envelope[:-2] + ',"sequence":')[:-1]
    return SplicedFrame(_prefix(event, channel) + head, _AFTER_NUMBER)

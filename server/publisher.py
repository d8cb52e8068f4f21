"""The one entrance for an event: checked, viewed, encoded once, handed to the broker.

Whatever way an event came (Redis, HTTP), this is where it is decided whether and as what it goes
out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Final

import orjson

from auth.apps import App, WebhookKind
from channels_spec.cards import may_hold_cards, without_cards
from channels_spec.contract import ChannelMatch, Contract
from channels_spec.envelope import Normalized, NotAcceptable, normalize
from channels_spec.faults import Fault, pointer
from channels_spec.pusher import (
    MAX_EVENT_DATA,
    MAX_EVENT_NAME,
    RESERVED_EVENT_PREFIXES,
    SOCKET_ID,
    is_channel_name,
    shortened,
)
from channels_spec.validate import MAX_FAULTS
from server.audit import Audit, own_event_id
from server.broker.interface import Broker, Receipt
from server.broker.message import Announcement, Kind, Move, Publication, Stay
from server.encoding import Event, check_size, encoded, new_id, plain_publication, publication_of
from server.errors import PublishRefused
from server.presence import Notify
from server.protocol import frames
from server.protocol.effects import Relay
from server.walls import PublishWall


class ContractMode(StrEnum):
    """What becomes of an event whose shape breaks the contract."""

    ENFORCE = "enforce"
    WARN = "warn"
    OFF = "off"


MAX_MESSAGE: Final = 1024 * 1024
"""Bytes of a message from Redis that are looked into; no event may be as long."""


def _nobody(
    app_id: str, kind: WebhookKind, channel: str, *, at_us: int = 0, **fields: str | int | None
) -> None:
    """Tell no backend."""


def _no_stay(stay: Stay) -> None:
    """Let a guest's access be."""


class Publisher:
    """Turns events into publications."""

    def __init__(
        self,
        contract: Contract,
        broker: Broker,
        *,
        mode: ContractMode,
        serves_unlisted: bool,
        notify: Notify = _nobody,
        checked_out: Callable[[Stay], None] = _no_stay,
        wall: PublishWall | None = None,
        audit: Audit | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._contract = contract
        self._broker = broker
        self._mode = mode
        self._serves_unlisted = serves_unlisted
        self._notify = notify
        self._checked_out = checked_out
        self._wall = wall or PublishWall()
        self._audit = audit or Audit()
        self._clock = clock
        self.published: Counter[str] = Counter()
        """Events published and duplicates, by outcome."""
        self.violations: Counter[tuple[str, str, str]] = Counter()
        """Contract violations and warnings that were let through, by (hotel, event, fault)."""

    @property
    def ready(self) -> bool:
        """Whether what is published now would go out."""
        return self._broker.ready

    def prepare(self, event: Event) -> Publication:
        """Check, view, encode and count an event; raises `PublishRefused`."""
        publication = self.encode(event)
        wait = self._wall.take(publication.app_id, publication.hotel_slug)
        if wait:
            raise self._too_many(wait, publication.app_id, publication.hotel_slug)
        return publication

    def count(self, publications: Sequence[Publication]) -> None:
        """Count events that go out together; raises `PublishRefused` and counts none of them."""
        hotels = [(publication.app_id, publication.hotel_slug) for publication in publications]
        if len(hotels) == 1:
            whose = hotels[0]
            wait = self._wall.take(*whose)
        else:
            wait, whose = self._wall.take_all(hotels)
        if wait:
            refused = self._too_many(wait, *whose)
            refused.whose = tuple(
                {"channel": each.channel, "event": each.event, "event_id": each.event_id}
                for each in publications
            )
            raise refused

    def wait_s(self, publication: Publication, count: int = 1) -> float:
        """Return in how many seconds `count` would let so many such events pass; 0.0: now."""
        return self._wall.wait_s(publication.app_id, publication.hotel_slug, count)

    def encode(self, event: Event) -> Publication:
        """Check, view and encode an event, to be counted later; raises `PublishRefused`."""
        try:
            return self._encode(event)
        except PublishRefused as refused:
            event_id = event.event_id or own_event_id(event.data)
            whose = {"channel": event.channel, "event": event.name or "", "event_id": event_id}
            refused.whose = (whose,)
            raise

    def _encode(self, event: Event) -> Publication:
        if not is_channel_name(event.channel):
            raise PublishRefused(
                400,
                f"{shortened(event.channel)} is not a channel name: "
                "at most 200 of A-Z a-z 0-9 _ - = @ , . ;",
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
        return plain_publication(event)

    def publish(self, publication: Publication, entrance: str = "http") -> asyncio.Future[Receipt]:
        """Hand a prepared event to the broker; the future may raise `BrokerUnavailable`."""
        future = self._broker.publish(publication)
        future.add_done_callback(partial(self._published, publication, entrance))
        return future

    def relay(self, app: App, sender: str, relay: Relay) -> None:
        """Send a client's event to the channel's other subscribers, on every node."""
        frame = frames.client_event(relay.event, relay.channel, relay.data, relay.user_id)
        announcement = Announcement(Kind.CLIENT_EVENT, frame, exclude=sender)
        self._broker.announce(app.id, relay.channel, announcement)
        self._notify(
            app.id,
            WebhookKind.CLIENT_EVENT,
            relay.channel,
            event=relay.event,
            data=relay.data,
            socket_id=sender,
            user_id=relay.user_id,
        )

    def _too_many(self, wait: float, app_id: str, hotel: str) -> PublishRefused:
        return PublishRefused(429, self._wall.reason(app_id, hotel), retry_after=wait)

    def _published(
        self, publication: Publication, entrance: str, future: asyncio.Future[Receipt]
    ) -> None:
        if future.cancelled():
            return
        if future.exception() is not None:
            self.published["failed"] += 1
            self._audit.published(publication, entrance, None)
            return
        receipt = future.result()
        self._audit.published(publication, entrance, receipt)
        self.published["duplicate" if receipt.duplicate else "published"] += 1
        move = publication.move
        if move is not None and receipt.state_before and self._mode is not ContractMode.OFF:
            self._count_move(move, receipt.state_before)
        if publication.ends_stay is not None:
            self._checked_out(publication.ends_stay)

    def _count_move(self, move: Move, before: str) -> None:
        if move.moves.unusual(before, move.to):
            fault = f"/payload/{move.moves.field}: unusual move"
            self._count_fault((move.hotel_slug, move.event, fault))

    def _contract_event(self, event: Event, match: ChannelMatch) -> Publication:
        body = _decoded(event.data)
        try:
            normalized = normalize(
                match,
                event.name,
                body,
                new_id=new_id if not event.event_id else lambda: event.event_id,
                now=self._now,
            )
        except NotAcceptable as error:
            raise PublishRefused(422, str(error), error.faults) from None
        _check_name(normalized.event)
        text = encoded(normalized.body)
        spec = normalized.spec
        check_size(text, spec.max_bytes if spec is not None else MAX_EVENT_DATA)
        if may_hold_cards(text, normalized.event_id):
            normalized = _without_cards(normalized)
            text = encoded(normalized.body)
        if normalized.violations and self._mode is ContractMode.ENFORCE:
            reason = "; ".join(map(str, normalized.violations))
            raise PublishRefused(422, reason, normalized.violations)
        self._count(normalized)
        return publication_of(event, match, normalized, text)

    def _now(self) -> str:
        return self._clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _count(self, normalized: Normalized) -> None:
        if self._mode is ContractMode.OFF:
            return
        for fault in (*normalized.violations, *normalized.warnings):
            self._count_fault((normalized.hotel_slug, normalized.event, fault.pointer))

    def _count_fault(self, fault: tuple[str, str, str]) -> None:
        if len(self.violations) >= _MAX_COUNTED and fault not in self.violations:
            fault = _OTHER_FAULTS
        self.violations[fault] += 1


_MAX_COUNTED: Final = 1_000
"""Distinct (hotel, event, fault) that are counted apart: a producer chooses two of them."""
_OTHER_FAULTS: Final = ("", "", "other")


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_EVENT_NAME:
        raise PublishRefused(400, f"an event's name has 1 to {MAX_EVENT_NAME} characters")
    if name.startswith(RESERVED_EVENT_PREFIXES):
        raise PublishRefused(
            400, "event names that start with pusher: or pusher_internal: are reserved"
        )


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
    meta = body.get("meta")
    event_id = meta.get("event_id") if normalized.enveloped and isinstance(meta, dict) else None
    return replace(
        normalized,
        body=body,
        event_id=str(event_id or normalized.event_id),
        violations=(*normalized.violations, *faults),
    )

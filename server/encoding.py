"""An event as it entered, and as the publication that is made of it: encoded once per view."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import orjson

from channels_spec.contract import ChannelMatch
from channels_spec.envelope import Normalized, conflation_key, scope_values
from channels_spec.pusher import MAX_EVENT_DATA, is_cache_channel
from channels_spec.views import PLAIN_VIEW, viewed
from server.broker.message import Move, Publication, SplicedFrame, Stay
from server.errors import PublishRefused


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
    event_id: str = ""
    """What it is known by where it carries no id of its own; empty: a new one."""


def new_id() -> str:
    """Return a random UUID; it is no secret, and made for every event that has none."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def publication_of(
    event: Event, match: ChannelMatch, normalized: Normalized, full: str
) -> Publication:
    """Encode what each view sees of a checked event; ``full`` is the whole body's JSON."""
    seen = viewed(match.family, normalized.spec, normalized.body, full)
    make = _numbered_frame if normalized.enveloped else _frame
    spec = normalized.spec
    return Publication(
        app_id=event.app_id,
        channel=event.channel,
        event_id=normalized.event_id,
        frames=tuple(
            make(
                normalized.event, event.channel, full if body is normalized.body else encoded(body)
            )
            for body in seen.bodies
        ),
        views=seen.views,
        hotel_slug=normalized.hotel_slug,
        exclude=event.exclude,
        conflation_key=conflation_key(normalized),
        filter_values=scope_values(normalized.body),
        numbered=normalized.enveloped,
        replayed=spec.replay if spec is not None else True,
        move=_move(normalized) if spec is not None and spec.moves is not None else None,
        ends_stay=_stay(match, normalized) if spec is not None and spec.ends_stay else None,
        event=normalized.event,
    )


def _stay(match: ChannelMatch, normalized: Normalized) -> Stay | None:
    """Return whose stay an event ends, by hotel and booking: two hotels may share a booking id."""
    payload = normalized.body.get("payload")
    booking_id = payload.get("booking_id") if isinstance(payload, dict) else None
    if not normalized.hotel_slug or not isinstance(booking_id, str | int):
        return None
    return Stay(normalized.hotel_slug, str(booking_id), match.family.for_guests)


def _move(normalized: Normalized) -> Move | None:
    """Return what the event says of a thing's state, where the contract watches its moves."""
    spec, payload = normalized.spec, normalized.body.get("payload")
    if spec is None or spec.moves is None or not isinstance(payload, dict):
        return None
    thing, to = payload.get(spec.moves.per), payload.get(spec.moves.field)
    if not isinstance(to, str) or not isinstance(thing, str | int) or not normalized.hotel_slug:
        return None
    return Move(spec.moves, normalized.event, normalized.hotel_slug, str(thing)[:_MAX_THING], to)


_MAX_THING: Final = 128
"""Characters by which things that move are told apart."""


def plain_publication(event: Event) -> Publication:
    """Encode an event of a channel outside the contract: the publisher's string, untouched."""
    if event.name is None:
        raise PublishRefused(400, "outside the contract an event needs a name: {event, data}")
    data = event.data if isinstance(event.data, str) else encoded(event.data)
    check_size(data, MAX_EVENT_DATA)
    return Publication(
        app_id=event.app_id,
        channel=event.channel,
        event_id=event.event_id or new_id(),
        frames=(_frame(event.name, event.channel, data),),
        views=((PLAIN_VIEW, 0),),
        exclude=event.exclude,
        cached=is_cache_channel(event.channel),
        event=event.name,
    )


def check_size(data: str, limit: int) -> None:
    """Refuse what has more bytes than it may."""
    # The first comparison spares encoding what is far too long.
    if len(data) > limit or len(data.encode()) > limit:
        raise PublishRefused(413, f"the event exceeds the allowed maximum ({limit} bytes)")


def encoded(body: object) -> str:
    """Return a body as JSON; refuses what JSON has no form for."""
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

"""Commands from client to server, parsed and checked; anything else is a `ProtocolError`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from channels_spec.pusher import (
    CLIENT_EVENT_PREFIX,
    MAX_EVENT_NAME,
    RESERVED_EVENT_PREFIXES,
    ErrorCode,
    Event,
    is_channel_name,
    shortened,
)
from server.protocol.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Ping:
    """The client asks for a pong."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The client answers our ping."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The client asks for a channel."""

    channel: str
    auth: str = ""
    channel_data: str | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The client leaves a channel."""

    channel: str


@dataclass(frozen=True, slots=True)
class Signin:
    """The client says who its user is: ``auth`` is a signature or a JWT."""

    auth: str
    user_data: str


@dataclass(frozen=True, slots=True)
class Renew:
    """The client brings a fresh token (`bellhop:auth`)."""

    token: str


@dataclass(frozen=True, slots=True)
class Filter:
    """The client narrows a subscription by ``meta.scope``, or widens it again."""

    channel: str
    scope: object


@dataclass(frozen=True, slots=True)
class Resume:
    """The client names the last event that it has of a channel, before it subscribes."""

    channel: str
    epoch: str
    sequence: int


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """The client sends an event to the other subscribers."""

    event: str
    channel: str
    data: object


Command = Ping | Pong | Subscribe | Unsubscribe | Signin | Renew | Filter | Resume | ClientEvent


def parse(text: bytes) -> Command:
    """Parse one message; raises `ProtocolError` whose reason tells the client what was wrong."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _malformed("the message is not valid JSON") from None
    if not isinstance(message, dict):
        raise _malformed("the message is not a JSON object")
    event = message.get("event")
    if not isinstance(event, str) or not 0 < len(event) <= MAX_EVENT_NAME:
        raise _no_command(
            event, message, f"event must be a string of 1 to {MAX_EVENT_NAME} characters"
        )
    match event:
        case Event.PING:
            return Ping()
        case Event.PONG:
            return Pong()
        case Event.SUBSCRIBE:
            data = _data(message, event)
            auth, channel_data = _text(data, "auth", event), None
            if data.get("channel_data") is not None:
                channel_data = _text(data, "channel_data", event)
            return Subscribe(_channel(data, event), auth, channel_data)
        case Event.UNSUBSCRIBE:
            return Unsubscribe(_channel(_data(message, event), event))
        case Event.SIGNIN:
            data = _data(message, event)
            return Signin(_text(data, "auth", event), _text(data, "user_data", event))
        case Event.AUTH:
            return Renew(_text(_data(message, event), "token", event))
        case Event.FILTER:
            data = _data(message, event)
            return Filter(_channel(data, event), data.get("scope"))
        case Event.RESUME:
            return _resume(_data(message, event), event)
        case _:
            return _client_event(event, message)


def _resume(data: dict[str, object], event: str) -> Resume:
    epoch, sequence = _text(data, "epoch", event), data.get("sequence")
    if not isinstance(sequence, int) or isinstance(sequence, bool) or sequence < 0:
        raise _malformed(f"{event}: sequence must be a whole number")
    return Resume(_channel(data, event), epoch[:_MAX_EPOCH], sequence)


_MAX_EPOCH: Final = 64


def _client_event(event: str, message: dict[str, object]) -> ClientEvent:
    if event.startswith(CLIENT_EVENT_PREFIX):
        return ClientEvent(event, _channel(message, event), message.get("data"))
    raise _no_command(event, message, f"unknown event {event!r}")


_OURS: Final = (*RESERVED_EVENT_PREFIXES, "bellhop:")
_MAX_ECHOED: Final = 512
"""Characters of a peer's own text that it is told again, so that it can find its channel by it."""


def _no_command(event: object, message: dict[str, object], reason: str) -> ProtocolError:
    """Return the error of a message with a name that no command has.

    With a channel beside it, it is a client event that breaks the rules of their names.
    """
    if not isinstance(event, str) or not event or event.startswith(_OURS):
        return _malformed(reason)
    prefixed = event.startswith(CLIENT_EVENT_PREFIX)
    channel = message.get("channel")
    if not isinstance(channel, str) and not prefixed:
        return _malformed(reason)
    if not prefixed and len(event) <= MAX_EVENT_NAME:
        reason += f": a client event's name begins with {CLIENT_EVENT_PREFIX}"
    return ProtocolError(reason, ErrorCode.CLIENT_EVENT_REFUSED, _echoed(channel))


def _echoed(channel: object) -> str | None:
    return channel if isinstance(channel, str) and 0 < len(channel) <= _MAX_ECHOED else None


def _malformed(reason: str) -> ProtocolError:
    return ProtocolError(reason, ErrorCode.MALFORMED_MESSAGE)


def _data(message: dict[str, object], event: str) -> dict[str, object]:
    """Return ``data`` as an object; some clients send it as a JSON string."""
    data = message.get("data")
    if isinstance(data, str):
        try:
            data = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise _malformed(f"{event}: data is a string that is not JSON") from None
    if not isinstance(data, dict):
        raise _malformed(f"{event}: data must be an object")
    return data


def _text(data: dict[str, object], key: str, event: str) -> str:
    value = data.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _malformed(f"{event}: {key} must be a string")
    return value


def _channel(data: dict[str, object], event: str) -> str:
    channel = data.get("channel")
    if isinstance(channel, str) and is_channel_name(channel):
        return channel
    prefixed = event.startswith(CLIENT_EVENT_PREFIX)
    code = ErrorCode.CLIENT_EVENT_REFUSED if prefixed else ErrorCode.MALFORMED_MESSAGE
    reason = f"{event}: channel must be a name of 1 to 200 characters of A-Z a-z 0-9 _ - = @ , . ;"
    # pusher-js hands an error to the bindings of the channel that it names, whatever the name.
    named = _echoed(channel)
    if named is None and channel is not None:
        reason += f", not {_told(channel)}"
    raise ProtocolError(reason, code, named)


def _told(value: object) -> str:
    """Return what stands where a name should, bounded."""
    match value:
        case str():
            return shortened(value)
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return orjson.dumps(value).decode()

"""The parameter `info`: which attributes of a channel an answer is to hold."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, assert_never

from channels_spec.pusher import ChannelKind, kind_of
from server.broker.occupancy import Attribute, Cached, Value
from server.http.answers import Refused

_CACHE_CHANNEL: Final = re.compile(r"(?:private-encrypted-|private-|presence-)?cache-")


def attributes(info: object, known: Collection[Attribute]) -> tuple[Attribute, ...]:
    """Decode a comma-separated list of attributes; refuses one that cannot be asked here."""
    if info is None:
        return ()
    if not isinstance(info, str):
        raise Refused(400, "info must be a comma-separated list of attributes")
    names = dict.fromkeys(name for part in info.split(",") if (name := part.strip()))
    for name in names:
        if name not in known:
            raise Refused(400, f"info may ask for {' and '.join(known)} here")
    return tuple(map(Attribute, names))


def applies(attribute: Attribute, channel: str) -> bool:
    """Say whether a channel of this kind has the attribute."""
    match attribute:
        case Attribute.USER_COUNT:
            return kind_of(channel) is ChannelKind.PRESENCE
        case Attribute.SUBSCRIPTION_COUNT:
            return True
        case Attribute.CACHE:
            return _CACHE_CHANNEL.match(channel) is not None
        case _:
            assert_never(attribute)


def shown(values: Mapping[Attribute, Value]) -> dict[str, object]:
    """Return attributes as they stand in an answer."""
    return {
        attribute.value: {"data": value.data, "ttl": value.ttl_s}
        if isinstance(value, Cached)
        else value
        for attribute, value in values.items()
    }

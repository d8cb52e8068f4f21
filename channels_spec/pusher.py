"""Pusher's own constants, one table each: channel kinds, close codes, event names, limits.

Sources: Pusher's protocol and REST documentation, and the clients' code where it decides (pusher-js
``protocol.ts`` gives a close code its meaning, whatever a server intended).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

# --- channel names -----------------------------------------------------------------------------

CHANNEL_NAME: Final = re.compile(r"#?[A-Za-z0-9_\-=@,.;]{1,200}", re.ASCII)
SOCKET_ID: Final = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}", re.ASCII)
SERVER_TO_USER_PREFIX: Final = "#server-to-user-"


class ChannelKind(StrEnum):
    """How a channel is authorized on the wire; decided by its name's prefix and nothing else."""

    PUBLIC = "public"
    PRIVATE = "private"
    PRESENCE = "presence"
    ENCRYPTED = "private-encrypted"
    SERVER_TO_USER = "server-to-user"

    @property
    def carries_client_events(self) -> bool:
        """Whether clients may send events to each other there, as far as the kind goes."""
        return self in (ChannelKind.PRIVATE, ChannelKind.PRESENCE)

    @property
    def signed(self) -> bool:
        """Whether a subscribe must carry a signature made with the app's secret."""
        return self in (ChannelKind.PRIVATE, ChannelKind.PRESENCE, ChannelKind.ENCRYPTED)


# Longest prefix first: "private-encrypted-x" also starts with "private-".
_KIND_BY_PREFIX: Final = (
    ("private-encrypted-", ChannelKind.ENCRYPTED),
    ("private-", ChannelKind.PRIVATE),
    ("presence-", ChannelKind.PRESENCE),
    (SERVER_TO_USER_PREFIX, ChannelKind.SERVER_TO_USER),
)


def is_channel_name(name: str) -> bool:
    """Whether ``name`` is a channel name that a client or a backend may use."""
    if CHANNEL_NAME.fullmatch(name) is None:
        return False
    # Without an id behind the prefix it would be the channel of whoever has none.
    return not name.startswith("#") or (
        name.startswith(SERVER_TO_USER_PREFIX) and name != SERVER_TO_USER_PREFIX
    )


def shortened(name: str) -> str:
    """Return a peer's bad name as the peer is told of it: quoted, and bounded."""
    return repr(name if len(name) <= _MAX_SHOWN else name[:_MAX_SHOWN] + "…")


_MAX_SHOWN: Final = 60


def kind_of(channel: str) -> ChannelKind:
    """Return the kind of a channel name by its prefix: `hotel-private-bar` is public."""
    for prefix, kind in _KIND_BY_PREFIX:
        if channel.startswith(prefix):
            return kind
    return ChannelKind.PUBLIC


_CACHE_PREFIXES: Final = (
    "cache-",
    "private-cache-",
    "private-encrypted-cache-",
    "presence-cache-",
)


def is_cache_channel(channel: str) -> bool:
    """Whether the channel keeps its last event for who subscribes later."""
    return channel.startswith(_CACHE_PREFIXES)


# --- close codes -------------------------------------------------------------------------------


class Reconnect(StrEnum):
    """What an unmodified pusher-js does after a close code."""

    NEVER = "never"
    AFTER_ONE_SECOND = "after 1 s"
    AT_ONCE = "at once"


class CloseCode(IntEnum):
    """The codes with which Bellhop ends a connection; ``CLOSE_CODES`` says what each means."""

    UNSUPPORTED_DATA = 1003
    INVALID_UTF8 = 1007
    INTERNAL_ERROR = 1011
    UNKNOWN_APP = 4001
    APP_DISABLED = 4003
    PATH_NOT_FOUND = 4005
    UNSUPPORTED_PROTOCOL = 4007
    NO_PROTOCOL = 4008
    UNAUTHORIZED = 4009
    OVER_CAPACITY = 4100
    TOKEN_EXPIRED = 4101
    AUTH_TIMEOUT = 4102
    DRAINING = 4200
    NO_PONG = 4201


@dataclass(frozen=True, slots=True)
class CloseCodeRow:
    """One row of the close-code table."""

    meaning: str
    reconnect: Reconnect


CLOSE_CODES: Final = {
    CloseCode.UNSUPPORTED_DATA: CloseCodeRow(
        "binary frame on a text protocol", Reconnect.AFTER_ONE_SECOND
    ),
    CloseCode.INVALID_UTF8: CloseCodeRow(
        "text frame that is not UTF-8", Reconnect.AFTER_ONE_SECOND
    ),
    CloseCode.INTERNAL_ERROR: CloseCodeRow("the server's own fault", Reconnect.AFTER_ONE_SECOND),
    CloseCode.UNKNOWN_APP: CloseCodeRow("no app has this key", Reconnect.NEVER),
    CloseCode.APP_DISABLED: CloseCodeRow("the app is disabled", Reconnect.NEVER),
    CloseCode.PATH_NOT_FOUND: CloseCodeRow("the path is not /app/{key}", Reconnect.NEVER),
    CloseCode.UNSUPPORTED_PROTOCOL: CloseCodeRow(
        "the protocol is none of 5, 6 and 7", Reconnect.NEVER
    ),
    CloseCode.NO_PROTOCOL: CloseCodeRow("no protocol is given", Reconnect.NEVER),
    CloseCode.UNAUTHORIZED: CloseCodeRow(
        "bad, revoked or wrong token, or origin: no use in retrying", Reconnect.NEVER
    ),
    CloseCode.OVER_CAPACITY: CloseCodeRow(
        "over capacity, slow consumer, or a draining node at the door", Reconnect.AFTER_ONE_SECOND
    ),
    CloseCode.TOKEN_EXPIRED: CloseCodeRow(
        "the token expired on a live connection: come back with a fresh one",
        Reconnect.AFTER_ONE_SECOND,
    ),
    CloseCode.AUTH_TIMEOUT: CloseCodeRow(
        "nobody authenticated in time", Reconnect.AFTER_ONE_SECOND
    ),
    CloseCode.DRAINING: CloseCodeRow("the node is draining", Reconnect.AT_ONCE),
    CloseCode.NO_PONG: CloseCodeRow("no pong in time", Reconnect.AT_ONCE),
}


class ErrorCode(IntEnum):
    """Codes of ``pusher:error`` frames that leave the connection open (pusher-js: 4300 and up)."""

    MALFORMED_MESSAGE = 4300
    CLIENT_EVENT_REFUSED = 4301
    WATCHLIST_TOO_LONG = 4302


# --- event names -------------------------------------------------------------------------------


class Event(StrEnum):
    """Names of protocol events, as they stand on the wire."""

    CONNECTION_ESTABLISHED = "pusher:connection_established"
    ERROR = "pusher:error"
    PING = "pusher:ping"
    PONG = "pusher:pong"
    SUBSCRIBE = "pusher:subscribe"
    UNSUBSCRIBE = "pusher:unsubscribe"
    SUBSCRIPTION_ERROR = "pusher:subscription_error"
    SUBSCRIPTION_SUCCEEDED = "pusher_internal:subscription_succeeded"
    MEMBER_ADDED = "pusher_internal:member_added"
    MEMBER_REMOVED = "pusher_internal:member_removed"
    SUBSCRIPTION_COUNT = "pusher_internal:subscription_count"
    CACHE_MISS = "pusher:cache_miss"
    WATCHLIST_EVENTS = "pusher_internal:watchlist_events"
    SIGNIN = "pusher:signin"
    SIGNIN_SUCCESS = "pusher:signin_success"
    AUTH = "bellhop:auth"
    AUTHENTICATED = "bellhop:authenticated"
    TOKEN_EXPIRING = "bellhop:token_expiring"  # noqa: S105  an event's name
    GAP = "bellhop:gap"
    RESUME = "bellhop:resume"
    FILTER = "bellhop:filter"


RESERVED_EVENT_PREFIXES: Final = ("pusher:", "pusher_internal:")
CLIENT_EVENT_PREFIX: Final = "client-"
PROTOCOL_VERSIONS: Final = frozenset({5, 6, 7})
SUBPROTOCOL: Final = "pusher-channels-protocol-7"

# --- limits (Pusher's own) ---------------------------------------------------------------------

MAX_EVENT_NAME: Final = 200
"""Characters in an event's name."""
MAX_EVENT_DATA: Final = 10_240
"""Bytes of an event's ``data``."""
MAX_CHANNELS_PER_TRIGGER: Final = 100
MAX_BATCH: Final = 10
"""Events of one batch."""
CACHE_S: Final = 1_800
"""Seconds for which a cache channel keeps its last event."""
MAX_CLIENT_MESSAGE: Final = 64 * 1024
"""Bytes of one message from a client; a presence subscribe with its channel_data is far below."""

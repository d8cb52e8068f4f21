"""Frames from server to client: one function per kind, each returning a frame's encoded text.

Whether ``data`` is a JSON string or an object is not taste: Pysher and Swift read handshakes and
subscription results only as strings, and errors only as objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import orjson

from channels_spec.pusher import CloseCode, ErrorCode, Event
from server.protocol.presence import GapReason, Member

PING: Final = orjson.dumps({"event": Event.PING, "data": {}})
PONG: Final = orjson.dumps({"event": Event.PONG, "data": {}})


def _string(data: object) -> str:
    return orjson.dumps(data).decode()


def connection_established(socket_id: str, activity_timeout_s: int) -> bytes:
    """Build the first frame of every accepted connection."""
    data = {"socket_id": socket_id, "activity_timeout": activity_timeout_s}
    return orjson.dumps({"event": Event.CONNECTION_ESTABLISHED, "data": _string(data)})


def error(code: CloseCode | ErrorCode, message: str, channel: str | None = None) -> bytes:
    """Build `pusher:error`; ``data`` is an object."""
    frame: dict[str, object] = {
        "event": Event.ERROR,
        "data": {"code": int(code), "message": message},
    }
    if channel is not None:
        frame["channel"] = channel
    return orjson.dumps(frame)


def subscription_succeeded(channel: str, roster: Sequence[Member] | None = None) -> bytes:
    """Build the confirmation of a subscription; ``roster`` only for presence channels."""
    data: dict[str, object] = {}
    if roster is not None:
        data["presence"] = {
            "ids": [member.user_id for member in roster],
            "hash": {member.user_id: orjson.Fragment(member.user_info) for member in roster},
            "count": len(roster),
        }
    return orjson.dumps(
        {"event": Event.SUBSCRIPTION_SUCCEEDED, "channel": channel, "data": _string(data)}
    )


def member_added(channel: str, member: Member) -> bytes:
    """Build what the others get when a user's first socket comes."""
    data = {"user_id": member.user_id, "user_info": orjson.Fragment(member.user_info)}
    return _internal(Event.MEMBER_ADDED, channel, data)


def member_removed(channel: str, user_id: str) -> bytes:
    """Build what the others get when a user's last socket has gone."""
    return _internal(Event.MEMBER_REMOVED, channel, {"user_id": user_id})


def subscription_count_beginning(channel: str) -> bytes:
    """Build a frame up to its figure; the broker's script writes that and the end."""
    name = {"event": Event.SUBSCRIPTION_COUNT, "channel": channel}
    return orjson.dumps(name)[:-1] + b',"data":"{\\"subscription_count\\":'


def cache_miss(channel: str) -> bytes:
    """Build what a cache channel without an event says."""
    return orjson.dumps({"event": Event.CACHE_MISS, "channel": channel, "data": "{}"})


def client_event(event: str, channel: str, data: str, user_id: str | None) -> bytes:
    """Build a client's event for the others; ``user_id`` on presence channels."""
    frame = {"event": event, "channel": channel, "data": data}
    if user_id is not None:
        frame["user_id"] = user_id
    return orjson.dumps(frame)


def watchlist_events(online: Sequence[str], offline: Sequence[str]) -> bytes:
    """Build the news of watched users: those who are online and those who are not."""
    events = [
        {"name": name, "user_ids": user_ids}
        for name, user_ids in (("online", online), ("offline", offline))
        if user_ids
    ]
    return orjson.dumps({"event": Event.WATCHLIST_EVENTS, "data": _string({"events": events})})


def _internal(event: Event, channel: str, data: object) -> bytes:
    return orjson.dumps({"event": event, "channel": channel, "data": _string(data)})


def subscription_error(channel: str, status: int, reason: str) -> bytes:
    """Build the refusal of a subscription; ``data`` is an object."""
    data = {"type": "AuthError", "error": reason, "status": status}
    return orjson.dumps({"event": Event.SUBSCRIPTION_ERROR, "channel": channel, "data": data})


def signin_success(user_data: str) -> bytes:
    """Build the confirmation of a signin; it echoes the very ``user_data`` string."""
    return orjson.dumps({"event": Event.SIGNIN_SUCCESS, "data": _string({"user_data": user_data})})


def gap(channel: str, reason: GapReason, since_ms: int | None) -> bytes:
    """Build the notice that something may be missing: refresh over HTTP."""
    since = None
    if since_ms is not None:
        moment = datetime.fromtimestamp(since_ms / 1000, UTC)
        since = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _internal(Event.GAP, channel, {"reason": reason, "since": since})


def answered(event: str, channel: str, error: str | None = None) -> bytes:
    """Build the answer to one of our own commands: its name and `:ok` or `:error`."""
    if error is None:
        name, data = f"{event}:ok", {"channel": channel}
    else:
        name, data = f"{event}:error", {"channel": channel, "error": error}
    return orjson.dumps({"event": name, "data": _string(data)})


def token_expiring(exp: float) -> bytes:
    """Build the notice that the connection's token ends soon."""
    return orjson.dumps({"event": Event.TOKEN_EXPIRING, "data": _string({"exp": int(exp)})})


def authenticated(exp: float) -> bytes:
    """Build the confirmation of a token renewed on the live connection."""
    return orjson.dumps({"event": Event.AUTHENTICATED, "data": _string({"exp": int(exp)})})

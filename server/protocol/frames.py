"""Frames from server to client: one function per kind, each returning a frame's encoded text.

Whether ``data`` is a JSON string or an object is not taste: Pysher and Swift read handshakes and
subscription results only as strings, and errors only as objects.
"""

from __future__ import annotations

from typing import Final

import orjson

from channels_spec.pusher import CloseCode, ErrorCode, Event

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


def subscription_succeeded(channel: str, data: object | None = None) -> bytes:
    """Build the confirmation of a subscription; ``data`` only for presence channels."""
    return orjson.dumps(
        {"event": Event.SUBSCRIPTION_SUCCEEDED, "channel": channel, "data": _string(data or {})}
    )


def subscription_error(channel: str, status: int, reason: str) -> bytes:
    """Build the refusal of a subscription; ``data`` is an object."""
    data = {"type": "AuthError", "error": reason, "status": status}
    return orjson.dumps({"event": Event.SUBSCRIPTION_ERROR, "channel": channel, "data": data})


def signin_success(user_data: str) -> bytes:
    """Build the confirmation of a signin; it echoes the very ``user_data`` string."""
    return orjson.dumps({"event": Event.SIGNIN_SUCCESS, "data": _string({"user_data": user_data})})


def filter_ok(channel: str) -> bytes:
    """Build the confirmation of a filter."""
    return orjson.dumps({"event": Event.FILTER_OK, "data": _string({"channel": channel})})


def filter_error(channel: str, reason: str) -> bytes:
    """Build the refusal of a filter; the one before stays in force."""
    data = {"channel": channel, "error": reason}
    return orjson.dumps({"event": Event.FILTER_ERROR, "data": _string(data)})


def authenticated(exp: float) -> bytes:
    """Build the confirmation of a token renewed on the live connection."""
    return orjson.dumps({"event": Event.AUTHENTICATED, "data": _string({"exp": int(exp)})})

"""The libraries of backends, in the same words."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

import pusher

from tests.clients.driver import Driven
from tests.clients.site import MASTER_KEY, Hook
from tests.harness import APP_ID, APP_KEY, APP_SECRET


class Backend(Protocol):
    """What every library can do; a refusal raises `BackendError`."""

    async def trigger(self, channels: list[str], event: str, data: Any, socket_id: str = "") -> Any:
        """Publish to channels, but not to one socket."""

    async def trigger_batch(self, batch: list[dict[str, Any]]) -> Any:
        """Publish several events."""

    async def channels(self, prefix: str = "", *info: str) -> Any:
        """Return the occupied channels."""

    async def channel(self, name: str, *info: str) -> Any:
        """Return one channel's attributes."""

    async def users(self, channel: str) -> Any:
        """Return who is on a presence channel."""

    async def to_user(self, user: str, event: str, data: Any) -> Any:
        """Publish to a user."""

    async def terminate(self, user: str) -> Any:
        """End a user's connections."""

    async def authorize(self, socket_id: str, channel: str, member: Any = None) -> dict[str, str]:
        """Sign a subscription."""

    async def authenticate(self, socket_id: str, user: dict[str, Any]) -> dict[str, str]:
        """Sign a signin."""

    async def webhook(self, hook: Hook) -> list[dict[str, Any]] | None:
        """Return a webhook's events, or ``None`` when the library does not believe it."""


class BackendError(Exception):
    """What a library raised."""


@dataclass(frozen=True)
class PythonBackend:
    """`pusher` for Python."""

    library: Any

    async def _call(self, method: str, *given: Any) -> Any:
        try:
            return await asyncio.to_thread(getattr(self.library, method), *given)
        except pusher.errors.PusherError as error:
            raise BackendError(str(error)) from error

    async def trigger(self, channels: list[str], event: str, data: Any, socket_id: str = "") -> Any:
        return await self._call("trigger", channels, event, data, socket_id or None)

    async def trigger_batch(self, batch: list[dict[str, Any]]) -> Any:
        return await self._call("trigger_batch", batch)

    async def channels(self, prefix: str = "", *info: str) -> Any:
        return await self._call("channels_info", prefix or None, list(info))

    async def channel(self, name: str, *info: str) -> Any:
        return await self._call("channel_info", name, list(info))

    async def users(self, channel: str) -> Any:
        return await self._call("users_info", channel)

    async def to_user(self, user: str, event: str, data: Any) -> Any:
        return await self._call("send_to_user", user, event, data)

    async def terminate(self, user: str) -> Any:
        return await self._call("terminate_user_connections", user)

    async def authorize(self, socket_id: str, channel: str, member: Any = None) -> dict[str, str]:
        return dict(await self._call("authenticate", channel, socket_id, member))

    async def authenticate(self, socket_id: str, user: dict[str, Any]) -> dict[str, str]:
        return dict(await self._call("authenticate_user", socket_id, user))

    async def webhook(self, hook: Hook) -> list[dict[str, Any]] | None:
        key, signature = hook.headers["x-pusher-key"], hook.headers["x-pusher-signature"]
        decoded = await self._call("validate_webhook", key, signature, hook.body)
        return None if decoded is None else list(decoded["events"])


@dataclass(frozen=True)
class NodeBackend:
    """`pusher` for Node.js."""

    driven: Driven

    async def open(self, port: int) -> None:
        """Create the library's object."""
        options = {
            "appId": APP_ID,
            "key": APP_KEY,
            "secret": APP_SECRET,
            "host": "127.0.0.1",
            "port": str(port),
            "encryptionMasterKeyBase64": MASTER_KEY,
        }
        await self.driven.tell("open", options=options)

    async def _call(self, method: str, *given: Any) -> Any:
        await self.driven.tell("call", method=method, arguments=given)
        answer = await self.driven.until("answer")
        if "error" in answer:
            raise BackendError(answer["error"])
        return answer["value"]

    async def trigger(self, channels: list[str], event: str, data: Any, socket_id: str = "") -> Any:
        params = {"socket_id": socket_id} if socket_id else {}
        return await self._call("trigger", channels, event, data, params)

    async def trigger_batch(self, batch: list[dict[str, Any]]) -> Any:
        return await self._call("triggerBatch", batch)

    async def channels(self, prefix: str = "", *info: str) -> Any:
        params = {"filter_by_prefix": prefix} if prefix else {}
        return await self._get("/channels", params, info)

    async def channel(self, name: str, *info: str) -> Any:
        return await self._get(f"/channels/{name}", {}, info)

    async def users(self, channel: str) -> Any:
        return await self._get(f"/channels/{channel}/users", {}, ())

    async def _get(self, path: str, params: dict[str, str], info: tuple[str, ...]) -> Any:
        return await self._call(
            "get", path, {**params, **({"info": ",".join(info)} if info else {})}
        )

    async def to_user(self, user: str, event: str, data: Any) -> Any:
        return await self._call("sendToUser", user, event, data)

    async def terminate(self, user: str) -> Any:
        return await self._call("terminateUserConnections", user)

    async def authorize(self, socket_id: str, channel: str, member: Any = None) -> dict[str, str]:
        return dict(await self._call("authorizeChannel", socket_id, channel, member))

    async def authenticate(self, socket_id: str, user: dict[str, Any]) -> dict[str, str]:
        return dict(await self._call("authenticateUser", socket_id, user))

    async def webhook(self, hook: Hook) -> list[dict[str, Any]] | None:
        events: list[dict[str, Any]] | None = await self._call("webhook", hook.headers, hook.body)
        return events

"""`bellhop tail`: a real client of the Pusher protocol that prints what it hears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import quote, urlsplit

import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from channels_spec.pusher import Event
from server.errors import ServerError

_QUIET: Final = frozenset({Event.CONNECTION_ESTABLISHED, Event.SUBSCRIPTION_SUCCEEDED, Event.PONG})


class TailFailed(ServerError):
    """The server turned this client away, or is not there."""


async def tail(
    url: str, key: str, channels: Sequence[str], token: str | None, echo: Callable[[str], None]
) -> None:
    """Subscribe to the channels and print one line of JSON per event, until it is turned away.

    Args:
        url: the server's, ``http://`` or ``https://``.
        key: the app's.
        channels: names.
        token: the JWT that opens them, or ``None``.
        echo: prints one line.

    """
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme in {"https", "wss"} else "ws"
    query = "protocol=7&client=bellhop-tail" + (f"&token={quote(token)}" if token else "")
    address = f"{scheme}://{parts.netloc}/app/{quote(key)}?{query}"
    try:
        async with connect(address, proxy=None) as socket:
            for channel in channels:
                frame = {"event": Event.SUBSCRIBE, "data": {"channel": channel}}
                await socket.send(orjson.dumps(frame).decode())
            async for message in socket:
                answer = _take(message, echo)
                if answer is not None:
                    await socket.send(answer)
        raise TailFailed(f"the server closed the connection ({socket.close_code})")
    except ConnectionClosed as closed:
        raise TailFailed(f"the connection ended: {closed}") from None
    except (OSError, WebSocketException) as error:
        raise TailFailed(f"{parts.scheme}://{parts.netloc}: {error}") from None


def _take(message: str | bytes, echo: Callable[[str], None]) -> str | None:
    """Print an event; return what is to be answered."""
    frame = orjson.loads(message)
    event, data = frame.get("event"), frame.get("data")
    if event == Event.PING:
        return orjson.dumps({"event": Event.PONG, "data": {}}).decode()
    if event == Event.ERROR:
        raise TailFailed(f"the server says: {data.get('message')} ({data.get('code')})")
    if event == Event.SUBSCRIPTION_ERROR:
        raise TailFailed(f"{frame.get('channel')}: {data.get('error')}")
    if event in _QUIET:
        return None
    if isinstance(data, str):
        with suppress(orjson.JSONDecodeError):
            data = orjson.loads(data)
    line = {"channel": frame.get("channel"), "event": event, "data": data}
    echo(orjson.dumps(line).decode())
    return None

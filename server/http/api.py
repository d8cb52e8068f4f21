"""Pusher's HTTP API, for backends: signed with the app's secret."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from auth.apps import App, AppRegistry
from auth.errors import RequestRefused
from auth.request_auth import verify_request
from channels_spec.pusher import MAX_CHANNELS_PER_TRIGGER
from server.broker.interface import Receipt
from server.errors import BrokerUnavailable, PublishRefused
from server.http.answers import JSON, Refused, body_of
from server.publisher import Event, Publisher

_MAX_BODY: Final = 1024 * 1024


class Api:
    """The endpoints under `/apps/{id}`."""

    def __init__(
        self, apps: AppRegistry, publisher: Publisher, clock: Callable[[], float] = time.time
    ) -> None:
        self._apps = apps
        self._publisher = publisher
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        """Return the endpoints."""
        return [Route("/apps/{app_id}/events", self.trigger, methods=["POST"])]

    async def trigger(self, request: Request) -> Response:
        """Publish an event on its channels: all are checked before the first goes out."""
        app, body = await self._signed(request)
        events = _events(app, _object(body))
        try:
            publications = [self._publisher.prepare(event) for event in events]
            receipts = await asyncio.gather(*map(self._publisher.publish, publications))
        except PublishRefused as refused:
            faults = [
                {"pointer": fault.pointer, "message": fault.message} for fault in refused.faults
            ]
            details = {"faults": faults} if faults else {}
            raise Refused(refused.status, refused.reason, **details) from None
        except BrokerUnavailable as error:
            raise Refused(503, f"the event was not published: {error}") from None
        return JSON({}, headers=_receipt_headers(receipts))

    async def _signed(self, request: Request) -> tuple[App, bytes]:
        """Return the app and the body of a request whose signature is good."""
        app = self._apps.by_id(request.path_params["app_id"])
        if app is None:
            raise Refused(404, "no such app")
        if not app.enabled:
            raise Refused(403, "the app is disabled")
        body = await body_of(request, _MAX_BODY)
        raw_path = request.scope["raw_path"].decode("ascii", errors="replace")
        query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        try:
            verify_request(app, request.method, raw_path, query, body, self._clock())
        except RequestRefused as refused:
            raise Refused(refused.status, refused.reason) from None
        return app, body


def _object(body: bytes) -> dict[str, object]:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused(400, "the body is not valid JSON") from None
    if not isinstance(decoded, dict):
        raise Refused(400, "the body is not a JSON object")
    return decoded


def _events(app: App, body: dict[str, object]) -> list[Event]:
    name, data, socket_id = body.get("name"), body.get("data"), body.get("socket_id")
    if not isinstance(name, str) or not name:
        raise Refused(400, "name must be the event's name")
    if data is None:
        raise Refused(400, "data is missing")
    if socket_id is not None and not isinstance(socket_id, str):
        raise Refused(400, "socket_id must be a string")
    channels = body.get("channels", body.get("channel"))
    if isinstance(channels, str):
        channels = [channels]
    if not isinstance(channels, list) or not all(isinstance(channel, str) for channel in channels):
        raise Refused(400, "channels must be a list of channel names")
    if not 0 < len(channels) <= MAX_CHANNELS_PER_TRIGGER:
        raise Refused(400, f"an event goes to 1 to {MAX_CHANNELS_PER_TRIGGER} channels")
    return [
        Event(app.id, channel, name, data, socket_id or "") for channel in dict.fromkeys(channels)
    ]


def _receipt_headers(receipts: list[Receipt]) -> dict[str, str]:
    return {
        "Bellhop-Event-Id": ",".join(dict.fromkeys(receipt.event_id for receipt in receipts)),
        "Bellhop-Sequence": ",".join(str(receipt.sequence) for receipt in receipts),
    }

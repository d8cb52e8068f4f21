"""Pusher's HTTP API, for backends: signed with the app's secret.

It is an ASGI application of its own in front of all other HTTP. A trigger costs little more than
its signature and Redis; a framework's request, route and response would be most of its price.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from auth.apps import AppRegistry
from auth.errors import RequestRefused
from auth.request_auth import verify_request
from server.audit import Audit
from server.broker.occupancy import Occupancy
from server.errors import BrokerUnavailable, PublishRefused
from server.http.answers import Refused
from server.http.channels import Channels
from server.http.events import Events
from server.http.past import PastEvents
from server.http.replies import Headers, Reply, reply
from server.http.revocations import Revocations
from server.http.signed import (
    Disconnected,
    SignedRequest,
    parsed_query,
    signing_app,
    whole_body,
)
from server.http.stream import EventStreams, Stream
from server.publisher import Publisher
from server.revoking import Revoking

Endpoint = Callable[[SignedRequest], Awaitable[Reply | Stream]]
Shape = tuple[str | None, ...]
"""A path's parts; `None` where a name stands."""

_PREFIXES: Final = (b"/apps/", b"/users/")


class Api:
    """Answers everything below `/apps/` and `/users/`, and leaves the rest to another."""

    def __init__(
        self,
        *,
        apps: AppRegistry,
        publisher: Publisher,
        occupancy: Occupancy,
        revoking: Revoking,
        past: PastEvents,
        streams: EventStreams,
        audit: Audit | None = None,
        otherwise: ASGIApp,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the endpoints; what is not theirs goes to ``otherwise``."""
        self._apps = apps
        self._audit = audit or Audit()
        self._otherwise = otherwise
        self._clock = clock
        events, channels = Events(publisher, occupancy), Channels(occupancy, self._audit)
        revocations = Revocations(revoking)
        terminate: Mapping[str, Endpoint] = {"POST": channels.terminate}
        self._endpoints: dict[Shape, Mapping[str, Endpoint]] = {
            ("apps", None, "events"): {"POST": events.trigger},
            ("apps", None, "batch_events"): {"POST": events.batch},
            ("apps", None, "channels"): {"GET": channels.listing},
            ("apps", None, "channels", None): {"GET": channels.one},
            ("apps", None, "channels", None, "users"): {"GET": channels.users},
            ("apps", None, "channels", None, "events"): {
                "POST": events.trigger_on_channel,
                "GET": past.events,
            },
            ("apps", None, "channels", None, "stream"): {"GET": streams.open},
            ("apps", None, "connections"): {"GET": channels.connections},
            ("apps", None, "revocations"): {"POST": revocations.revoke},
            ("apps", None, "users", None, "terminate_connections"): terminate,
            # The path to which Pusher's own Python library posts.
            ("users", None, "terminate_connections"): terminate,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["raw_path"].startswith(_PREFIXES):
            await self._otherwise(scope, receive, send)
            return
        answer: Reply | Stream
        try:
            answer = await self._answer(scope, receive)
        except Disconnected:
            return
        except Refused as refused:
            self._note(scope, refused.status, refused.reason)
            answer = reply({"error": refused.reason, **refused.details}, refused.status)
        except RequestRefused as refused:
            self._note(scope, refused.status, refused.reason)
            answer = reply({"error": refused.reason}, refused.status)
        except PublishRefused as refused:
            self._note(scope, refused.status, refused.reason, refused.whose)
            faults = [{"pointer": each.pointer, "message": each.message} for each in refused.faults]
            details = {"faults": faults} if faults else {}
            answer = reply(
                {"error": refused.reason, **details}, refused.status, _retry_after(refused)
            )
        except BrokerUnavailable as error:
            answer = reply({"error": str(error)}, 503)
        if isinstance(answer, Stream):
            await answer.pour(scope, receive, send)
        else:
            await answer.send(send)

    def _note(
        self, scope: Scope, status: int, reason: str, whose: Sequence[dict[str, str]] = ()
    ) -> None:
        """Note a refusal; only of an event that was looked at it is known who has signed it."""
        parts = scope["path"].split("/")
        app_id = parts[2] if parts[1] == "apps" else ""
        what = "publish" if parts[-1] in {"events", "batch_events"} else "request"
        for fields in whose or ({},):
            known = bool(whose)
            self._audit.refused(
                what, status, reason, known=known, app=app_id, entrance="http", **fields
            )

    async def _answer(self, scope: Scope, receive: Receive) -> Reply | Stream:
        method: str = scope["method"]
        raw_path = scope["raw_path"].decode("ascii", errors="replace")
        parts = raw_path[1:].split("/")
        endpoints = self._endpoints.get(_shape(parts))
        if endpoints is None:
            raise Refused(404, "no such path")
        endpoint = endpoints.get(method)
        if endpoint is None:
            allow = (b"allow", ", ".join(endpoints).encode())
            return reply({"error": f"the method {method} is not allowed here"}, 405, (allow,))
        query = parsed_query(scope["query_string"])
        names = [unquote(part) for part in parts[1::2]]
        app = signing_app(self._apps, names.pop(0) if parts[0] == "apps" else None, query)
        body = await whole_body(receive)
        verify_request(app, method, raw_path, query, body, self._clock())
        return await endpoint(SignedRequest(app, tuple(names), query, body, scope["headers"]))


def _retry_after(refused: PublishRefused) -> Headers:
    """Return the header that says when to come again, in whole seconds."""
    if refused.retry_after is None:
        return ()
    return ((b"Retry-After", b"%d" % max(1, math.ceil(refused.retry_after))),)


def _shape(parts: list[str]) -> Shape:
    """Return what a path looks like: every second part is a name."""
    shape: list[str | None] = list(parts)
    shape[1::2] = [None] * len(parts[1::2])
    return tuple(shape)

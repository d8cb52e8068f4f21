"""Whether the node lives, whether it may be sent clients, and its metrics."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from auth.signatures import same
from server.http.answers import JSON, Refused


class Health:
    """The endpoints for operators' machines."""

    def __init__(
        self,
        *,
        unready: Callable[[], str | None],
        metrics: Callable[[], bytes],
        metrics_token: str | None,
    ) -> None:
        """Create the endpoints; ``unready`` says why clients should stay away, if so."""
        self._unready = unready
        self._metrics = metrics
        self._metrics_token = metrics_token

    def routes(self) -> list[BaseRoute]:
        """Return the endpoints."""
        return [
            Route("/health/live", self.live),
            Route("/health/ready", self.ready),
            Route("/metrics", self.metrics),
        ]

    async def live(self, request: Request) -> Response:
        """Answer as long as the event loop turns."""
        del request
        return JSON({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """Answer 200 where clients may come, else 503 with the reason."""
        del request
        reason = self._unready()
        if reason is not None:
            return JSON({"status": "unready", "reason": reason}, status_code=503)
        return JSON({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """Render the metrics for whoever holds the token; without one, for direct loopback."""
        if not self._may_read(request):
            raise Refused(403, "metrics need the bearer token (BELLHOP_METRICS_TOKEN)")
        return Response(self._metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _may_read(self, request: Request) -> bool:
        if self._metrics_token is not None:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            return scheme.lower() == "bearer" and same(token.strip(), self._metrics_token)
        # A proxy's requests come from loopback too; it says for whom it asks.
        forwarded = "x-forwarded-for" in request.headers or "forwarded" in request.headers
        client = request.client
        return not forwarded and client is not None and _loopback(client.host)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

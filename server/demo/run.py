"""`bellhop demo`: the server, a simulated hotel, and a page that shows it live."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from auth.apps import App
from auth.tokens import TokenSigner
from server import logs
from server.config import (
    AppSettings,
    ContractSettings,
    JwtSettings,
    ServerSettings,
    Settings,
)
from server.demo.hotel import Hotel
from server.demo.keys import (
    DEMO_APP_ID,
    DEMO_HOTEL,
    DEMO_HOTEL_ID,
    DEMO_JWT_SECRET,
    DEMO_KEY,
    DEMO_SECRET,
)
from server.demo.page import PUSHER_JS, demo_routes
from server.demo.simulator import simulate
from server.errors import ConfigError
from server.node import Node, running_node
from server.parts import Parts
from server.serving import bound_socket, serve
from server.session import Session

_TOKEN_S: Final = 600
_PERSONAS: Final = {
    "reception": ("staff-niamh", "Niamh Kelly", "front_desk"),
    "housekeeping": ("staff-tomasz", "Tomasz Nowak", "housekeeping"),
    "finance": ("staff-aoife", "Aoife Byrne", "finance"),
}


def demo_settings(port: int) -> Settings:
    """Return the demo's fixed settings."""
    return Settings.model_validate(
        {
            "app": AppSettings.model_validate(
                {"id": DEMO_APP_ID, "key": DEMO_KEY, "secret": DEMO_SECRET}
            ),
            "jwt": JwtSettings.model_validate({"secret": DEMO_JWT_SECRET}),
            "contract": ContractSettings(mode="enforce"),
            "server": ServerSettings(port=port, log_level="warning", drain_s=2),
        }
    )


async def demo_main(port: int, interval_s: float, echo: Callable[[str], None]) -> None:
    """Run the demo until a signal comes; raises `ConfigError` where it cannot start."""
    if not PUSHER_JS.exists():
        raise ConfigError(
            "pusher-js is not installed; `make setup` gets it from npm for the demo page"
        )
    settings = demo_settings(port)
    logs.configure(settings.server.log_level)
    parts = Parts(settings)
    listening = bound_socket(settings)
    hotel = Hotel(random.Random(), lambda: datetime.now(UTC))  # noqa: S311  a simulation
    async with running_node(parts) as node:
        routes = demo_routes(hotel, key=DEMO_KEY, mint=mint, viewers=lambda: _viewers(node))
        echo(_banner(port, node.redis_url))
        simulator = asyncio.create_task(
            simulate(
                hotel,
                redis_url=node.redis_url,
                redis_prefix=settings.redis.prefix,
                http_url=f"http://127.0.0.1:{port}",
                app=App(DEMO_APP_ID, DEMO_KEY, DEMO_SECRET),
                interval_s=interval_s,
            )
        )
        try:
            await serve(node, listening, node.http(routes))
        finally:
            simulator.cancel()


def mint(persona: str) -> str:
    """Return a fresh token for one of the demo's people; reception for anybody unknown."""
    sub, name, role = _PERSONAS.get(persona, _PERSONAS["reception"])
    now = int(time.time())
    claims = {
        "sub": sub,
        "name": name,
        "iat": now,
        "exp": now + _TOKEN_S,
        "hotels": [{"slug": DEMO_HOTEL, "id": DEMO_HOTEL_ID, "roles": [role]}],
    }
    return TokenSigner(DEMO_JWT_SECRET).sign(claims)


def _viewers(node: Node) -> list[dict[str, str]]:
    """Return who has the rooms on screen now, one line per connection."""
    viewers = []
    for subscriber in node.hub.subscribers((DEMO_APP_ID, f"{DEMO_HOTEL}.rooms")):
        principal = subscriber.principal if isinstance(subscriber, Session) else None
        if principal is not None:
            grant = principal.hotel(DEMO_HOTEL)
            roles = ", ".join(sorted(grant.roles)) if grant is not None else principal.kind
            viewers.append({"name": principal.name or principal.sub, "role": roles})
    return viewers


def _banner(port: int, redis_url: str) -> str:
    exports = {
        "PUSHER_APP_ID": DEMO_APP_ID,
        "PUSHER_KEY": DEMO_KEY,
        "PUSHER_SECRET": DEMO_SECRET,
        "BELLHOP_JWT_SECRET": DEMO_JWT_SECRET,
        "REDIS_URL": redis_url,
        "BELLHOP_URL": f"http://127.0.0.1:{port}",
    }
    lines = [
        "Bellhop demo: a simulated hotel, on loopback only, with keys that everybody knows.",
        "",
        f"  Front desk   http://127.0.0.1:{port}/demo",
        f"  Health       http://127.0.0.1:{port}/health/ready",
        f"  Metrics      http://127.0.0.1:{port}/metrics",
        "",
        "For another terminal:",
        "",
        *(f"  export {name}={value}" for name, value in exports.items()),
        "",
        f"  bellhop publish {DEMO_HOTEL}.rooms room_occupancy_updated \\",
        """    --data '{"room_number": "101", "is_occupied": true}'""",
        "",
        "Ctrl-C ends it.",
    ]
    return "\n".join(lines)

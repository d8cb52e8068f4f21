"""The composition root: one running Bellhop process. Only here are concrete classes named."""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from auth.origins import OriginPolicy, Origins
from auth.revocations import Revocations
from server.audit import Audit, AuditStream
from server.authorizer import Authorizer
from server.broker.embedded import EmbeddedValkey
from server.broker.keys import Keys
from server.broker.occupancy import Occupancy
from server.broker.redis import History, RedisBroker, connect
from server.config import Settings
from server.draining import Draining
from server.errors import BrokerUnavailable, ConfigError
from server.figures import Sources, collector
from server.http.answers import Refused, refused
from server.http.api import Api
from server.http.auth import ClientAuth
from server.http.health import Health
from server.http.past import PastEvents
from server.http.stream import EventStreams
from server.hub import Hub
from server.ingress import Ingress
from server.intake import Intake
from server.jwks import JwksKeys, PatientVerifier
from server.metrics import Metrics
from server.orders import Orders
from server.parts import Parts
from server.presence import Presence
from server.publisher import ContractMode, Publisher
from server.registry import Registry
from server.rejected import Rejected
from server.repairing import Repairing
from server.resuming import Resuming
from server.revoking import Revoking
from server.session_audit import SessionAudit
from server.surroundings import Surroundings
from server.taps import Taps
from server.transports.admission import Admission
from server.transports.door import Door, cookie_token
from server.transports.homes import Homes
from server.transports.http import CONNECTION
from server.transports.proxies import TrustedProxies
from server.transports.sockjs import SockJs
from server.transports.websocket import join
from server.users import Users
from server.walls import PublishWall, Walls
from server.webhooks import Webhooks
from server.wheel import Wheel

_COLLECTOR: Final = (10_000, 20, 20)
"""New objects before the youngest are looked through, and how often before the older ones are."""
_LEAVE_S: Final = 5.0
"""Seconds that a stopping node gives Redis to take note of it."""


class Node:
    """The parts of one process, wired."""

    def __init__(self, parts: Parts, redis_url: str) -> None:
        """Wire everything; called on the event loop."""
        self.redis_url = redis_url
        self.parts = parts
        self._redis = connect(redis_url)
        self._node_id = secrets.token_hex(8)
        self.over_http: SockJs | None = None
        self._revocations = Revocations()
        self._origins = Origins(OriginPolicy(parts.settings.allowed_origins), parts.apps)
        self._wheel = Wheel()
        limits = parts.settings.walls.limits()
        self._walls, self._publish_wall = Walls(limits), PublishWall(limits.publishes)
        self._authorizer = _authorizer(parts.settings)
        audit = parts.settings.audit
        self._audit = Audit(on=audit.events > 0, publishes=audit.publishes)
        self._listen()
        self._gather()
        self._publish()
        self._verify()
        self._around = Surroundings(
            hub=self.hub,
            presence=self._presence,
            resuming=self._resuming,
            users=self._users,
            relayer=self._publisher,
            notify=self._webhooks.emit,
            wheel=self._wheel,
            verifier=self._verifier,
            rules=parts.rules(self._revocations),
            authorizer=self._authorizer,
            audit=SessionAudit(self._audit),
        )
        self.door = Door(
            parts.apps,
            self._origins,
            self._around,
            self._registry.connections,
            walls=self._walls,
            proxies=TrustedProxies(parts.settings.server.trusted_proxies),
            audit=self._audit,
        )
        self.admission = Admission(
            parts.settings.walls.admission(), behind=lambda: self._broker.behind
        )
        self._draining = Draining(
            self.hub,
            self._presence,
            self._registry.has_others,
            over_s=parts.settings.server.drain_s,
        )

    def _listen(self) -> None:
        """Wire the broker, the hub, and what the broker brings besides events."""
        settings = self.parts.settings
        prefix, history = settings.redis.prefix, settings.history
        kept = History(history.seconds, history.events, history.dedupe_s, history.session_s)
        self._broker = RedisBroker(self._redis, prefix, kept, self._node_id)
        self._repairing = Repairing(self._broker.history)
        self._taps = Taps(self._broker)
        self.hub = Hub(
            self._taps,
            join=join,
            defer=asyncio.get_running_loop().call_soon,
            stir=self._stir,
            repair=self._repairing.ask,
        )
        self._repairing.bring_to(self.hub)
        self._taps.bring_to(self.hub)
        self._streams = EventStreams(
            self._taps,
            self._broker.history,
            self.parts.contract,
            serves_unlisted=self.parts.serves_unlisted,
            connection=CONNECTION,
        )
        self._revoking = Revoking(
            self._redis,
            Keys(prefix),
            self._revocations,
            lasts_s=settings.revocation_s,
            apply=self._apply_revocations,
            audit=self._audit,
        )
        self._resuming = Resuming(
            self._broker.records,
            self._broker.history,
            node_id=self._node_id,
            clients=self.hub.sessions,
            tell=self._broker.tell_nodes,
        )
        self._orders = Orders(self.hub, self._revoking, self._resuming)
        self._broker.bring_to(self._taps, self._orders)

    def _gather(self) -> None:
        """Wire who is here, what is told to the other nodes and to backends."""
        parts, membership = self.parts, self._broker.membership
        self._webhooks = Webhooks(self._redis, parts.settings.redis.prefix, parts.apps)
        self._presence = Presence(membership, parts.apps, self._webhooks.emit)
        self._users = Users(membership, self.hub)
        self._registry = Registry(
            membership, self._presence, self._users, self._resuming, self._connections
        )

    def _publish(self) -> None:
        """Wire the entrances of events."""
        settings = self.parts.settings
        self._publisher = Publisher(
            self.parts.contract,
            self._broker,
            mode=ContractMode(settings.contract.mode),
            serves_unlisted=self.parts.serves_unlisted,
            notify=self._webhooks.emit,
            checked_out=self._orders.check_out,
            wall=self._publish_wall,
            audit=self._audit,
        )
        self._rejected = Rejected(self._redis, settings.redis.prefix, self._audit)
        self._audit_stream = AuditStream(
            self._redis,
            settings.redis.prefix,
            self._audit,
            node_id=self._node_id,
            most=settings.audit.events,
        )
        self._ingress = Ingress(
            self._redis,
            prefix=settings.redis.prefix,
            default_app=settings.default_app.id,
            known_apps=frozenset(app.id for app in self.parts.apps),
            publisher=self._publisher,
            rejected=self._rejected,
            others=self._registry,
        )
        self._intake = Intake(
            self._redis,
            prefix=settings.redis.prefix,
            default_app=settings.default_app.id,
            known_apps=frozenset(app.id for app in self.parts.apps),
            publisher=self._publisher,
            rejected=self._rejected,
        )

    def _verify(self) -> None:
        """Wire who knows the token keys."""
        jwks_url = self.parts.settings.jwt.jwks_url
        self._jwks = None if jwks_url is None else JwksKeys(jwks_url, self.parts.keys)
        source = None if self._jwks is None else self._jwks.keys
        self._verifier = PatientVerifier(self.parts.verifier(source), self._jwks)

    async def drain(self) -> None:
        """Send the clients to other nodes; new ones are turned away at the door."""
        self.door.draining = self._streams.draining = True
        self._broker.tell_nodes({"draining": self._node_id})
        async with asyncio.TaskGroup() as tasks:
            if self.over_http is not None:
                tasks.create_task(self.over_http.drain(self.parts.settings.server.drain_s))
            await self._draining.drain()
            self._streams.end()

    def hurry(self) -> None:
        """Send all clients away at once."""
        self._draining.hurry()
        if self.over_http is not None:
            self.over_http.hurry()
        self._streams.end()

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run beside the server."""
        runs = (
            self._broker,
            self._repairing,
            self._registry,
            self._revoking,
            self._orders,
            self._presence,
            self._users,
            self._resuming,
            self._ingress,
            self._intake,
            self._rejected,
            self._webhooks,
            self._audit_stream,
            self._wheel,
        )
        asking = (part for part in (self._jwks, self._authorizer) if part is not None)
        return [part.run() for part in (*runs, *asking)]

    def http(self, more: Sequence[BaseRoute] = (), *, homes: Homes | None = None) -> ASGIApp:
        """Return the HTTP application; ``homes`` knows the other workers on the same socket."""
        settings, default = self.parts.settings, self.parts.settings.default_app
        app = self.parts.apps.by_id(default.id)
        if app is None:
            raise ConfigError("app: missing")
        token = settings.metrics_token
        routes = [
            *ClientAuth(
                apps=self.parts.apps,
                default=app,
                verifier=self._verifier,
                contract=self.parts.contract,
                origins=self._origins,
                revocations=self._around.rules.revocations,
                cookie_token=cookie_token,
                audit=self._audit,
            ).routes(),
            *Health(
                unready=self.unready,
                metrics=Metrics(collector(self._figures())).render,
                metrics_token=token.get_secret_value() if token is not None else None,
            ).routes(),
            *more,
        ]
        others = Starlette(routes=routes, exception_handlers={Refused: refused})
        occupancy = Occupancy(self._redis, settings.redis.prefix)
        over_http = SockJs(self.door, others, admission=self.admission, homes=homes)
        self.over_http = over_http
        return Api(
            apps=self.parts.apps,
            publisher=self._publisher,
            occupancy=occupancy,
            revoking=self._revoking,
            past=PastEvents(self._broker.history),
            streams=self._streams,
            audit=self._audit,
            otherwise=over_http,
        )

    def unready(self) -> str | None:
        """Say why clients should not be sent here, if so."""
        if self._draining.begun:
            return "the node is draining"
        if not (self._broker.ready and self._ingress.ready and self._registry.known):
            return "Redis does not answer"
        if self._jwks is not None and not self._jwks.known:
            return "the token issuer's keys cannot be fetched"
        return None

    async def leave(self) -> None:
        """Leave the other nodes, when every session has ended."""
        if self.over_http is not None:
            self.over_http.end()
        self._broker.records.write()
        with suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._ingress.leave()
                await self._registry.leave()

    async def close(self) -> None:
        """Let Redis go."""
        await self._redis.aclose()

    def _apply_revocations(self) -> None:
        for session in list(self.hub.sessions.values()):
            session.revoked()

    def _stir(self) -> None:
        self._registry.stir()

    def _connections(self) -> dict[str, int]:
        """Count the open connections by app; an app without any has its zero."""
        return {**{app.id: 0 for app in self.parts.apps}, **self.hub.connections()}

    def _figures(self) -> Sources:
        return Sources(
            hub=self.hub,
            publisher=self._publisher,
            ingress=self._ingress,
            rejected=self._rejected,
            resuming=self._resuming,
            admission=self.admission,
            webhooks=self._webhooks,
            walls=self._walls,
            audit=self._audit,
            jwks=self._jwks,
            unready=self.unready,
        )


def _authorizer(settings: Settings) -> Authorizer | None:
    asked = settings.authorizer
    if asked.url is None:
        return None
    return Authorizer(asked.url, deadline_s=asked.deadline_s, cache_s=asked.cache_s)


@asynccontextmanager
async def running_node(parts: Parts, *, embedded_port: int | None = None) -> AsyncIterator[Node]:
    """Run a node's background around the body, with an embedded Valkey where no Redis is named."""
    async with AsyncExitStack() as stack:
        url = parts.settings.redis.url
        if url is None:
            port = embedded_port or parts.settings.server.port + 1
            url = await stack.enter_async_context(EmbeddedValkey(port))
        node = Node(parts, url)
        stack.push_async_callback(node.close)
        # What is there now stays for good; the collector need not walk it again and again.
        gc.freeze()
        # Sessions live long: the default thresholds have it walk over all of them while many come.
        gc.set_threshold(*_COLLECTOR)
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(part) for part in node.background()]
            try:
                yield node
            finally:
                await node.leave()
                for task in background:
                    task.cancel()

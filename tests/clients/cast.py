"""Opens released clients of one kind, as an application of theirs would."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from tests.clients.driver import Driven, PusherJs, fallback_options, websocket_options
from tests.clients.features import PUSHER_JS, Kind
from tests.clients.hosts import Host
from tests.clients.pysher_driver import PysherDriver
from tests.clients.site import Site
from tests.clients.topology import Topology
from tests.harness import APP_KEY

# On an encrypted channel the Java client takes every frame for an encrypted one, the count too.
_FAULTS_OF_JAVA: Final = ('"base64String" is null',)


@dataclass
class Cast:
    """The clients of one kind in one test."""

    kind: Kind
    host: Host | None
    """Where they run; ``None`` for Pysher, which runs in threads of ours."""
    topology: Topology
    site: Site
    opened: list[Driven] = field(default_factory=list)
    fallback: str = ""
    """The transport of pusher-js over HTTP that its clients must take; empty: a WebSocket."""

    async def open(self, user: str = "ada", **how: Any) -> Driven:
        """Open a client of a user and await that it is connected; `create` says how."""
        client = await self.create(user, **how)
        await client.until("state", current="connected")
        return client

    async def create(
        self,
        user: str = "ada",
        *,
        key: str = APP_KEY,
        token: str = "",
        endpoint: str = "",
        watched: tuple[str, ...] = (),
        sub: str = "",
    ) -> Driven:
        """Create a client.

        Args:
            user: for whom the site's backend signs channels and signins.
            key: of the app.
            token: is presented on the connection, and to ``endpoint``.
            endpoint: signs channels in the place of the site's backend.
            watched: the users of the watchlist, told at signin.
            sub: signs in with the token itself, by a custom handler.

        """
        client = self._new()
        self.opened.append(client)
        channel_auth = endpoint or self.site.channel_auth(user)
        user_auth = self.site.user_auth(user, *watched)
        port = self.topology.door.port
        given: dict[str, Any]
        at_door = "" if endpoint or sub else token
        path = f"/t/{at_door}" if at_door else ""
        options = {**websocket_options(port), "wsPath": path}
        if self.fallback:
            # All requests of a session are one node's.
            options = fallback_options(self.topology.nodes[0].port, self.fallback, path)
        match self.kind:
            case Kind.NODE | Kind.PAGE | Kind.WORKER:
                await client.tell("token", value=token)
                signin = {"sub": sub} if sub else {"userAuth": user_auth}
                given = {"key": key, "options": options, "channelAuth": channel_auth}
                await client.tell("open", **given, **signin)
            case Kind.ECHO:
                options |= {"key": key, "bearerToken": token or None}
                given = {"key": key, "options": options, "channelAuth": channel_auth}
                await client.tell("open", **given, userAuth=user_auth)
            case Kind.PYSHER:
                given = {"key": key, "port": port, "token": at_door, "channel_auth": endpoint}
                await client.tell("open", **given, user=user)
            case Kind.JAVA:
                # Java can add neither a header nor a path: the token goes behind the key.
                key = f"{key}?token={at_door}&z=" if at_door else key
                given = {"key": key, "port": port, "token": token}
                await client.tell("open", **given, channelAuth=channel_auth, userAuth=user_auth)
            case _:
                raise ValueError(self.kind)
        return client

    def _new(self) -> Driven:
        if self.host is None:
            return PysherDriver().driven
        if self.kind in PUSHER_JS:
            return self.host.new("pusher-js", PusherJs)
        return self.host.new(self.kind.package, Driven)

    async def end(self) -> None:
        """Disconnect them all; nothing may have been thrown."""
        for client in self.opened:
            await client.tell("disconnect")
        if self.host is not None:
            thrown = [*self.host.thrown]
            self.host.thrown.clear()
            if self.kind is Kind.JAVA:
                thrown = [
                    each for each in thrown if not any(known in each for known in _FAULTS_OF_JAVA)
                ]
            assert not thrown, thrown

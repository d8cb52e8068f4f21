"""An issuer of tokens: its keys, a small HTTP server that publishes them, and who fetches them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from auth.errors import AuthError
from auth.tokens import TokenSigner, TokenVerifier
from server.jwks import JwksKeys, Pace, PatientVerifier
from tests.auth import keys
from tests.auth.keys import key_pair
from tests.harness import eventually

# Fetched again at once when asked, and never of its own accord.
ASKED = Pace(gap_s=0.0, least_s=3600.0)

ALGORITHMS = {
    "rsa": "RS256",
    "other-rsa": "RS256",
    "p256": "ES256",
    "p384": "ES384",
    "p521": "ES512",
    "ed25519": "EdDSA",
}


def jwk(name: str, **members: object) -> dict[str, object]:
    """Return the public half of a key pair, whose id is its name, as an issuer publishes it."""
    return keys.jwk(name, **{"kid": name, **members})


def signed(name: str, *, kid: str | None = "", **claims: Any) -> str:
    """Sign a token that is good for an hour; `kid` is the key's name, unless given."""
    said = {"sub": "staff-12", "exp": time.time() + 3600, **claims}
    signer = TokenSigner(key_pair(name).private, ALGORITHMS[name], name if kid == "" else kid)
    return signer.sign(said)


@dataclass
class Issuer:
    """What is published, how, and what was asked for."""

    published: list[object] = field(default_factory=list)
    body: bytes | None = None
    """What is answered in place of the keys."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """Whether the connection is closed in place of an answer."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Nothing is answered while this is cleared."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request, and its `path`, in their order."""
    times: list[float] = field(default_factory=list)
    port: int = 0
    connections: set[asyncio.StreamWriter] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys.json"

    def publish(self, *names: str) -> None:
        """Publish these keys and no other."""
        self.published = [jwk(name) for name in names]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        self.connections.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answered(reader, writer):
                    pass
        finally:
            writer.close()
            self.connections.remove(writer)

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.times.append(time.monotonic())
        self.requests.append({"path": first.split(" ")[1], **headers})
        await self.gate.wait()
        if self.cut:
            return False
        body = json.dumps({"keys": self.published}).encode() if self.body is None else self.body
        given = {"Content-Length": str(len(body)), **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        writer.write(f"HTTP/1.1 {self.status} X\r\n{head}\r\n".encode() + body)
        await writer.drain()
        return True


@contextlib.asynccontextmanager
async def issuing(*names: str, port: int = 0) -> AsyncIterator[Issuer]:
    """Run an issuer that publishes these keys; port 0 is any."""
    issuer = Issuer()
    issuer.publish(*names)
    server = await asyncio.start_server(issuer.serve, "127.0.0.1", port)
    issuer.port = server.sockets[0].getsockname()[1]
    try:
        yield issuer
    finally:
        server.close()
        issuer.gate.set()
        for writer in issuer.connections:
            writer.close()
        await eventually(lambda: not issuer.connections)


@contextlib.asynccontextmanager
async def fetching(keys: JwksKeys) -> AsyncIterator[PatientVerifier]:
    """Run the fetching of keys around the body."""
    task = asyncio.create_task(keys.run())
    try:
        yield PatientVerifier(TokenVerifier(keys.keys), keys)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def fetches(keys: JwksKeys, count: int) -> None:
    """Await so many fetches, good or bad."""
    await eventually(lambda: keys.counts.total() >= count)


async def asked_times(issuer: Issuer, count: int) -> None:
    """Await so many requests to the issuer."""
    await eventually(lambda: len(issuer.requests) == count)


async def refusal(verifier: PatientVerifier, token: str) -> AuthError:
    """Return why a token is refused in the end."""
    with pytest.raises(AuthError) as caught:
        await verifier.verified(token)
    return caught.value

"""Tokens whose issuer publishes its keys, at every entrance of a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.conftest import StartServer
from tests.harness import HOTEL, ROOMS, Client, Server, eventually
from tests.server.issuer import Issuer, issuing, signed


async def started(start_server: StartServer, issuer: Issuer) -> Server:
    """Start a server that knows the issuer's address and no key."""
    settings = {"BELLHOP_JWT_SECRET": "", "BELLHOP_JWT_JWKS_URL": issuer.url}
    return await start_server(**settings)


def staff(name: str, **claims: Any) -> str:
    """Sign a token of staff of the tests' hotel."""
    return signed(name, **{"sub": "staff-1", "hotels": [HOTEL], **claims})


async def authorized(server: Server, token: str) -> httpx.Response:
    """Ask for a signature as pusher-js does."""
    async with httpx.AsyncClient(timeout=30.0) as client:
        return await client.post(
            f"{server.url}/pusher/user-auth",
            data={"socket_id": "1.1"},
            headers={"Authorization": f"Bearer {token}"},
        )


async def code(client: Client) -> int:
    """Await the close; return its code."""
    return (await client.closed())[0]


async def test_key_is_fetched_at_every_entrance(start_server: StartServer) -> None:
    """A key that is published after the start serves wherever a token may come in."""
    async with issuing("rsa") as issuer:
        server = await started(start_server, issuer)
        async with server.client(f"/t/{staff('rsa')}") as client:
            await client.subscribe(ROOMS)
            issuer.publish("rsa", "p256", "p384", "p521", "ed25519")
            fetched = len(issuer.requests)
            issuer.gate.clear()
            # All of them wait for one fetch, and what they ask meanwhile waits with them.
            async with (
                server.client(f"/t/{staff('p256')}") as by_path,
                server.client() as by_signin,
            ):
                await by_path.send("pusher:subscribe", {"channel": ROOMS})
                await by_signin.signin(staff("p384"))
                await by_signin.send("pusher:subscribe", {"channel": ROOMS})
                await client.send("bellhop:auth", {"token": staff("ed25519")})
                asked = asyncio.create_task(authorized(server, staff("p521")))
                await client.quiet()
                await by_path.quiet()
                await by_signin.quiet()
                issuer.gate.set()
                await by_path.until("pusher_internal:subscription_succeeded")
                await by_signin.until("pusher:signin_success")
                await by_signin.until("pusher_internal:subscription_succeeded")
                await client.until("bellhop:authenticated")
                assert (await asked).status_code == 200
            assert len(issuer.requests) == fetched + 1


async def test_key_that_the_issuer_does_not_have_is_refused_for_good(
    start_server: StartServer,
) -> None:
    """4009 and 403, but a cookie is only ignored."""
    async with issuing("rsa") as issuer:
        server = await started(start_server, issuer)
        fetched = len(issuer.requests)
        issuer.gate.clear()
        asked = asyncio.create_task(authorized(server, staff("p256")))
        await eventually(lambda: len(issuer.requests) == fetched + 1)
        cookie = {"Cookie": f"bellhop_token={staff('p256')}"}
        async with (
            server.client(f"/t/{staff('p256')}") as by_path,
            server.client(additional_headers=cookie) as by_cookie,
        ):
            await by_cookie.quiet()
            issuer.gate.set()
            assert await code(by_path) == 4009
            await by_cookie.signin(staff("rsa"))
            await by_cookie.until("pusher:signin_success")
        assert (await asked).status_code == 403


async def test_key_that_cannot_be_asked_for_is_no_refusal(start_server: StartServer) -> None:
    """4100 and 503, so that the client comes back; tokens of known keys go on."""
    async with issuing("rsa") as issuer:
        server = await started(start_server, issuer)
        issuer.status = 503
        async with server.client(f"/t/{staff('p256')}") as by_path:
            assert await code(by_path) == 4100
        assert (await authorized(server, staff("p256"))).status_code == 503
        async with server.client(f"/t/{staff('rsa')}") as client:
            await client.subscribe(ROOMS)
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(f"{server.url}/metrics")).text
        assert "bellhop_jwks_age_seconds " in metrics
        assert 'bellhop_jwks_fetches_total{outcome="failed"}' in metrics
        assert len(server.log_events("jwks.lost")) == 1


async def test_client_cannot_have_all_tokens_wait_for_its_own(start_server: StartServer) -> None:
    """Two of its tokens may wait for keys; at a third it is sent away, to come back."""
    async with issuing("rsa") as issuer:
        server = await started(start_server, issuer)
        issuer.gate.clear()
        async with server.client(f"/t/{staff('rsa')}") as client:
            for number in range(3):
                await client.send("bellhop:auth", {"token": staff("p256", jti=f"{number}")})
            assert await code(client) == 4100

"""The command `bellhop`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
import uuid
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import click
import httpx
import orjson
from redis.exceptions import RedisError

from auth.apps import App
from auth.errors import AuthError
from auth.principal import claims_under, principal_from_claims
from auth.tokens import TokenSigner
from channels_spec.contract import Contract
from server import logs
from server.audit_cli import audit
from server.backend import signed_post
from server.broker.redis import connect
from server.config import Settings, load_settings, named, read_settings
from server.contract_cli import contract
from server.demo.keys import DEMO_JWT_SECRET, DEMO_SECRET
from server.demo.run import demo_main
from server.errors import ConfigError
from server.history_cli import history
from server.node import running_node
from server.parts import Parts
from server.rejected_cli import rejected
from server.revoke_cli import revoke
from server.serving import bound_socket, serve
from server.supervisor import supervise
from server.tail import tail
from server.trace_cli import trace
from server.transports.homes import Homes
from server.usage import (
    CONFIG,
    URL,
    Failed,
    Misconfigured,
    OneLine,
    config_file,
    misconfigured,
    run,
)
from server.webhooks_cli import webhooks

_TAIL_S: Final = 86_400
"""How long `tail` may listen without coming back."""


def main() -> None:
    """Run the command line."""
    bellhop(prog_name="bellhop")


def _version() -> str:
    try:
        return version("bellhop-server")
    except PackageNotFoundError:
        return "not installed"


@click.group(cls=OneLine)
@click.version_option(_version())
def bellhop() -> None:
    """Bellhop: a self-hosted, Pusher-compatible realtime server for hotels."""


bellhop.add_command(audit)
bellhop.add_command(contract)
bellhop.add_command(history)
bellhop.add_command(rejected)
bellhop.add_command(revoke)
bellhop.add_command(trace)
bellhop.add_command(webhooks)


def _settings(config: Path | None, **command_line: object) -> Settings:
    given = {path.replace("__", "."): value for path, value in command_line.items()}
    try:
        return load_settings(config_file(config), os.environ, given)
    except ConfigError as error:
        raise misconfigured(error) from None


def _parts(settings: Settings) -> Parts:
    try:
        return Parts(settings)
    except ConfigError as error:
        raise misconfigured(error) from None


@bellhop.command(name="serve")
@CONFIG
@click.option("--host", help="Address to listen on; default 127.0.0.1.")
@click.option("--port", type=int, help="Port to listen on; default 6001.")
@click.option("--uds", type=click.Path(path_type=Path), help="A unix socket instead.")
@click.option("--ssl-certfile", type=click.Path(path_type=Path), help="TLS certificate (PEM).")
@click.option("--ssl-keyfile", type=click.Path(path_type=Path), help="TLS key (PEM).")
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="Processes on one port.")
@click.option("--fd", type=int, hidden=True, help="A worker's socket, from its supervisor.")
@click.option(
    "--home",
    type=(int, int, click.Path(path_type=Path)),
    hidden=True,
    help="A worker's private socket, its number, and where the other workers' sockets are.",
)
def serve_command(
    *,
    config: Path | None,
    host: str | None,
    port: int | None,
    uds: Path | None,
    ssl_certfile: Path | None,
    ssl_keyfile: Path | None,
    workers: int,
    fd: int | None,
    home: tuple[int, int, Path] | None,
) -> None:
    """Run the server."""
    settings = _settings(
        config,
        server__host=host,
        server__port=port,
        server__uds=uds,
        server__ssl_certfile=ssl_certfile,
        server__ssl_keyfile=ssl_keyfile,
    )
    parts = _parts(settings)
    _refuse_demo_secrets(settings)
    logs.configure(settings.server.log_level)
    if workers > 1 and fd is None:
        _supervise(settings, workers)
        return

    async def main_() -> None:
        listening = bound_socket(settings) if fd is None else socket.socket(fileno=fd)
        async with running_node(parts) as node:
            if home is None:
                await serve(node, listening, node.http(), supervised=fd is not None)
                return
            private, number, directory = home
            app = node.http(homes=Homes(number, workers, directory))
            await serve(
                node, listening, app, supervised=True, private=socket.socket(fileno=private)
            )

    run(main_)


def _supervise(settings: Settings, workers: int) -> None:
    embedded_port = settings.server.port + 1 if settings.redis.url is None else None

    async def main_() -> None:
        await supervise(
            sys.argv[sys.argv.index("serve") + 1 :],
            workers=workers,
            listening=bound_socket(settings),
            environment=os.environ,
            embedded_port=embedded_port,
        )

    run(main_)


def _refuse_demo_secrets(settings: Settings) -> None:
    for app in settings.all_apps:
        if app.secret.get_secret_value() == DEMO_SECRET:
            raise Misconfigured(f"{named('app.secret')}: this is the demo's; everybody knows it")
    if settings.jwt.secret and settings.jwt.secret.get_secret_value() == DEMO_JWT_SECRET:
        raise Misconfigured(f"{named('jwt.secret')}: this is the demo's; everybody knows it")


@bellhop.command()
@click.option("--port", type=click.IntRange(1, 65_534), default=6001, show_default=True)
@click.option(
    "--interval",
    type=click.FloatRange(0.01, 3600),
    default=1.5,
    show_default=True,
    help="Seconds a step.",
)
def demo(port: int, interval: float) -> None:
    """Run a simulated hotel with a front-desk page, on loopback only."""
    run(lambda: demo_main(port, interval, click.echo))


@bellhop.command()
@CONFIG
def check(config: Path | None) -> None:
    """Check configuration, keys, contract and Redis; tells every problem."""
    try:
        settings, problems, left_out = read_settings(config_file(config), os.environ, {})
    except ConfigError as error:
        raise misconfigured(error) from None
    parts = None
    try:
        parts = Parts(settings)
    except ConfigError as error:
        # What depends on a section that is known to be wrong is not worth telling.
        problems += [text for text in error.problems if not text.startswith(left_out)]

    async def main_() -> None:
        url = settings.redis.url
        try:
            client = connect(url) if url is not None else None
        except ValueError:
            return
        if client is None:
            return
        try:
            await client.ping()
        except (RedisError, OSError) as error:
            problems.append(f"{named('redis.url')}: {error}")
        finally:
            await client.aclose()

    run(main_)
    if parts is None or problems:
        raise misconfigured(ConfigError(*problems))
    redis = "Redis answers" if settings.redis.url else "embedded Valkey (REDIS_URL is not set)"
    families = len(parts.contract.families)
    click.echo(
        f"configuration is good: {len(parts.keys)} token key(s), {families} families, {redis}"
    )


@bellhop.command(name="tail")
@CONFIG
@click.argument("channels", nargs=-1, required=True)
@click.option("--token", "jwt", help="The JWT to present; default: an operator's, made here.")
@URL
def tail_command(
    *, config: Path | None, channels: tuple[str, ...], jwt: str | None, url: str
) -> None:
    """Subscribe as a real client and print one line of JSON per event."""
    settings = _settings(config)
    app = next(iter(_parts(settings).apps))
    if jwt is None and settings.jwt.secret is not None:
        now = int(time.time())
        claims: dict[str, object] = {"sub": "bellhop-tail", "kind": "service", "hotels": "*"}
        claims |= {"iat": now, "exp": now + _TAIL_S, "roles": ["admin"]}
        _put_jwt_expectations(settings, claims)
        claims = claims_under(settings.jwt.claims.names(), claims)
        jwt = TokenSigner(settings.jwt.secret.get_secret_value()).sign(claims)
    run(lambda: tail(url, app.key, channels, jwt, click.echo))


@bellhop.command()
@CONFIG
@click.option("--sub", required=True, help="Whose token: the subject.")
@click.option(
    "--hotel", "hotels", multiple=True, required=True, help="Hotel's slug; * for service."
)
@click.option("--hotel-id", "hotel_ids", multiple=True, help="The hotel's id, in the same order.")
@click.option("--role", "roles", multiple=True)
@click.option("--kind", type=click.Choice(["staff", "guest", "service"]), default="staff")
@click.option("--booking", help="The guest's booking id.")
@click.option("--scope", "scopes", multiple=True)
@click.option(
    "--ttl",
    type=click.IntRange(min=1),
    default=3600,
    show_default=True,
    help="Seconds until it expires.",
)
def token(
    *,
    config: Path | None,
    sub: str,
    hotels: tuple[str, ...],
    hotel_ids: tuple[str, ...],
    roles: tuple[str, ...],
    kind: str,
    booking: str | None,
    scopes: tuple[str, ...],
    ttl: int,
) -> None:
    """Print a JWT signed with the configured key."""
    settings = _settings(config)
    if settings.jwt.secret is None:
        raise Misconfigured(f"{named('jwt.secret')}: missing; a token is signed with it")
    if len(hotel_ids) > len(hotels):
        raise Misconfigured("--hotel-id: more of them than of --hotel")
    now = int(time.time())
    claims: dict[str, object] = {"sub": sub, "iat": now, "exp": now + ttl, "kind": kind}
    claims["jti"] = str(uuid.uuid4())
    ids = [*hotel_ids, *[None] * len(hotels)]
    claims["hotels"] = [
        {"slug": slug, "id": int(id_) if id_.isdecimal() else id_} if id_ is not None else slug
        for slug, id_ in zip(hotels, ids, strict=False)
    ]
    if roles:
        claims["roles"] = list(roles)
    if booking is not None:
        claims["booking_id"] = booking
    if scopes:
        claims["scope"] = list(scopes)
    _put_jwt_expectations(settings, claims)
    try:
        principal_from_claims(claims)
        claims = claims_under(settings.jwt.claims.names(), claims)
        click.echo(TokenSigner(settings.jwt.secret.get_secret_value()).sign(claims))
    except (AuthError, ValueError) as error:
        raise Misconfigured(str(error)) from None


def _put_jwt_expectations(settings: Settings, claims: dict[str, object]) -> None:
    if settings.jwt.issuer is not None:
        claims["iss"] = settings.jwt.issuer
    if settings.jwt.audience is not None:
        claims["aud"] = settings.jwt.audience


@bellhop.command()
@CONFIG
@click.argument("channel")
@click.argument("event")
@click.option("--data", default="{}", help="JSON, @FILE, or - for standard input.")
@click.option("--via", type=click.Choice(["redis", "http"]), default="http", show_default=True)
@URL
def publish(
    *, config: Path | None, channel: str, event: str, data: str, via: str, url: str
) -> None:
    """Publish one event; on a contract channel bare data becomes the envelope's payload."""
    settings = _settings(config)
    parts = _parts(settings)
    body, event_id = _body(parts.contract, channel, event, _json(data))
    if via == "redis":
        asyncio.run(_publish_by_redis(settings, channel, event, body))
        click.echo(event_id or "published")
        return
    app = next(iter(parts.apps))
    answer = _publish_by_http(app, url, channel, event, body)
    click.echo(f"{answer['Bellhop-Event-Id']} sequence {answer['Bellhop-Sequence']}")


def _json(text: str) -> object:
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        return orjson.loads(text)
    except OSError as error:
        raise Misconfigured(f"--data: {error.strerror or error}") from None
    except ValueError as error:  # neither text nor JSON
        raise Misconfigured(f"--data is not valid JSON: {error}") from None


def _body(contract: Contract, channel: str, event: str, data: object) -> tuple[object, str | None]:
    """Return what is published and its event id; bare data gets its envelope."""
    match = contract.match(channel)
    if match is None or not isinstance(data, dict):
        return data, None
    if "payload" not in data:
        categories = sorted(match.family.categories)
        data = {"category": categories[0] if categories else "", "type": event, "payload": data}
    meta = dict(data.get("meta") or {})
    meta.setdefault("event_id", str(uuid.uuid4()))
    if match.hotel_slug:
        meta.setdefault("hotel_slug", match.hotel_slug)
    meta.setdefault("ts", datetime.now(UTC).isoformat(timespec="milliseconds"))
    return {**data, "meta": meta}, str(meta["event_id"])


async def _publish_by_redis(settings: Settings, channel: str, event: str, body: object) -> None:
    if settings.redis.url is None:
        raise Misconfigured(f"{named('redis.url')}: missing; --via redis needs it")
    client = connect(settings.redis.url)
    prefix = settings.redis.prefix
    try:
        message = orjson.dumps({"event": event, "data": body})
        await client.publish(f"{prefix}publish@{settings.default_app.id}:{channel}", message)
    except (RedisError, OSError) as error:
        raise Failed(f"{named('redis.url')}: {error}") from None
    finally:
        await client.aclose()


def _publish_by_http(app: App, url: str, channel: str, event: str, body: object) -> httpx.Headers:
    data = orjson.dumps(body).decode()
    given = {"name": event, "channels": [channel], "data": data}
    return signed_post(app, url, "/events", given).headers

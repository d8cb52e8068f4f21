"""Where a server listens: a unix socket, TLS, and what it refuses at its start."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import websockets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.harness import (
    APP_KEY,
    DEADLINE_S,
    Client,
    ended,
    eventually,
    make_server,
    new_hotel,
    room_updated,
    token,
)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "cert.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


async def ready(make: Callable[[], httpx.AsyncClient], url: str) -> bool:
    """Whether the server answers that clients may come."""
    async with make() as client:
        with suppress(httpx.TransportError):
            return (await client.get(f"{url}/health/ready")).status_code == 200
    return False


async def hears(connection: Any, hotel: str, publish: Callable[[], Any]) -> None:
    """Assert that an event reaches a client over this connection."""
    async with connection as opened:
        client = Client(opened)
        await client.greeted()
        await client.subscribe(f"{hotel}.rooms")
        await publish()
        await client.until("room_updated")


async def test_server_listens_on_a_unix_socket(tmp_path: Path) -> None:
    """HTTP and WebSocket, behind a proxy on the same machine; a stale socket file is replaced."""
    path = tmp_path / "bellhop.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    server = make_server(tmp_path / "server.log", {}, "--uds", str(path))
    hotel = new_hotel()

    def client() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)))

    with ended(server):
        server.start()
        await eventually(lambda: ready(client, "http://bellhop"))
        connection = websockets.unix_connect(
            str(path),
            f"ws://bellhop/t/{token(hotels=[hotel])}/app/{APP_KEY}?protocol=7",
            open_timeout=DEADLINE_S,
        )
        await hears(
            connection,
            hotel,
            lambda: server.publish(f"{hotel}.rooms", room_updated(hotel=hotel)),
        )
        async with client() as http:
            # A peer without an address is no loopback peer.
            assert (await http.get("http://bellhop/metrics")).status_code == 403


async def test_server_speaks_tls(tmp_path: Path) -> None:
    """`--ssl-certfile` and `--ssl-keyfile` make the one port https and wss."""
    certificate, key = self_signed(tmp_path)
    trust = ssl.create_default_context(cafile=str(certificate))
    files = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    server = make_server(tmp_path / "server.log", {}, *files)
    hotel = new_hotel()
    with ended(server):
        server.start()
        url = f"https://127.0.0.1:{server.port}"
        await eventually(lambda: ready(lambda: httpx.AsyncClient(verify=trust), url))
        connection = websockets.connect(
            f"wss://127.0.0.1:{server.port}/t/{token(hotels=[hotel])}/app/{APP_KEY}?protocol=7",
            ssl=trust,
            open_timeout=DEADLINE_S,
            proxy=None,
        )
        await hears(
            connection,
            hotel,
            lambda: server.publish(f"{hotel}.rooms", room_updated(hotel=hotel)),
        )
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient() as client:
                plain = await client.get(f"http://127.0.0.1:{server.port}/health/live")
            assert plain.status_code != 200

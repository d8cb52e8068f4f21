from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from auth.errors import KeysUnavailable
from server import jwks
from server.jwks import MAX_BYTES, JwksKeys
from tests.harness import eventually, free_port_pair
from tests.server.issuer import (
    ASKED,
    Issuer,
    asked_times,
    fetches,
    fetching,
    issuing,
    refusal,
    signed,
)


def broken(**changes: object) -> Callable[[Issuer], None]:
    """Change how an issuer answers."""

    def change(issuer: Issuer) -> None:
        for name, value in changes.items():
            setattr(issuer, name, value)

    return change


OUTAGES: dict[str, tuple[Callable[[Issuer], None], str]] = {
    "refused": (broken(status=503), "answered 503"),
    "nothing there": (broken(status=404), "answered 404"),
    "cut": (broken(cut=True), "failed (RemoteProtocolError)"),
    "not JSON": (broken(body=b"<html>"), "answered what is not JSON"),
    "not text": (broken(body=b"\xff\xfe"), "answered what is not JSON"),
    "no object": (broken(body=b"[]"), "answered what is not a key set"),
    "no keys": (broken(body=b"{}"), "the key set holds no public key that can verify tokens"),
    "empty": (broken(published=[]), "the key set holds no public key that can verify tokens"),
    "keys no list": (broken(body=b'{"keys":{"kty":"RSA"}}'), "the key set holds no public key"),
    "nested": (broken(body=b'{"keys":' + b"[" * 5000), "answered what is not JSON"),
    "secrets only": (
        broken(published=[{"kty": "oct", "k": "x" * 60}]),
        "the key set holds no public key that can verify tokens",
    ),
    "short key": (
        lambda issuer: issuer.publish("short-rsa"),
        "the key set holds no public key that can verify tokens",
    ),
    "too many": (
        lambda issuer: setattr(issuer, "published", [{"kty": "x"}] * 101),
        "the key set holds more than 100 keys",
    ),
    "oversized": (
        broken(body=json.dumps({"keys": [], "x": "y" * MAX_BYTES}).encode()),
        f"answered more than {MAX_BYTES} bytes",
    ),
    "packed": (
        broken(body=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}),
        "answered in an encoding that was not asked for",
    ),
    "redirect": (
        broken(status=302, headers={"Location": "http://127.0.0.1:1/x"}),
        "answered 302",
    ),
}


@pytest.mark.parametrize("case", OUTAGES)
async def test_copy_serves_through_an_outage(case: str) -> None:
    """Whatever comes instead of keys, those at hand stay; the outage is told once, and ends."""
    change, reason = OUTAGES[case]
    with capture_logs() as logs:
        async with issuing("rsa") as issuer:
            keys = JwksKeys(issuer.url, pace=replace(ASKED, max_retry_s=0.0))
            async with fetching(keys) as verifier:
                await verifier.verified(signed("rsa"))
                good = dict(vars(issuer))
                change(issuer)
                error = await refusal(verifier, signed("p256"))
                assert type(error) is KeysUnavailable
                await fetches(keys, keys.counts.total() + 3)
                assert verifier.verify(signed("rsa"), time.time()).sub == "staff-12"
                vars(issuer).update(good)
                issuer.publish("rsa", "p256")

                await eventually(lambda: keys.counts["fetched"] >= 2)
                assert (await verifier.verified(signed("p256"))).sub == "staff-12"
    events = [line["event"] for line in logs if line["event"].startswith("jwks.")]
    assert events == ["jwks.fetched", "jwks.lost", "jwks.fetched"]
    (lost,) = [line for line in logs if line["event"] == "jwks.lost"]
    assert lost["reason"].startswith(reason)
    assert (lost["url"], lost["copy"], lost["log_level"]) == (issuer.url, True, "warning")


async def test_issuer_that_answers_nothing_in_time_is_an_outage() -> None:
    """A fetch ends; who waits for it is told that nothing is known of the token."""
    with capture_logs() as logs:
        async with issuing("rsa") as issuer:
            issuer.gate.clear()
            keys = JwksKeys(issuer.url, pace=replace(ASKED, timeout_s=0.05, gap_s=3600.0))
            async with fetching(keys) as verifier:
                assert type(await refusal(verifier, signed("rsa"))) is KeysUnavailable
                assert keys.counts == {"failed": 1}
                # Within the gap after a failure nobody waits.
                assert type(await refusal(verifier, signed("rsa"))) is KeysUnavailable
                assert len(issuer.requests) == 1
    (lost,) = [line for line in logs if line["event"] == "jwks.lost"]
    assert (lost["reason"], lost["copy"]) == ("no answer within 0.05 s", False)


async def test_issuer_that_dribbles_is_cut_off() -> None:
    """The time is for the whole answer, not for each of its pieces."""
    gone = asyncio.Event()

    async def dribble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.005)
        writer.close()
        gone.set()

    server = await asyncio.start_server(dribble, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    keys = JwksKeys(url, pace=replace(ASKED, timeout_s=0.1, gap_s=3600.0))
    async with fetching(keys) as verifier:
        assert type(await refusal(verifier, signed("rsa"))) is KeysUnavailable
    await gone.wait()
    server.close()


async def test_issuer_that_is_not_there_yet_is_found_when_it_is() -> None:
    """A node may start before its issuer, and knows the keys as soon as they are there."""
    port = free_port_pair()
    keys = JwksKeys(f"http://127.0.0.1:{port}/", pace=replace(ASKED, max_retry_s=0.01))
    with capture_logs() as logs:
        async with fetching(keys) as verifier:
            await fetches(keys, 1)
            assert type(await refusal(verifier, signed("rsa"))) is KeysUnavailable
            async with issuing("rsa", port=port):
                await eventually(lambda: keys.known)
                assert verifier.verify(signed("rsa"), time.time()).sub == "staff-12"
    assert [line["reason"] for line in logs if "reason" in line] == ["cannot be connected to"]


async def test_fault_of_ours_is_an_outage_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that an issuer answers ends the node."""

    def fail(_document: object) -> None:
        raise RuntimeError("broken")

    with capture_logs() as logs:
        async with issuing("rsa") as issuer:
            keys = JwksKeys(issuer.url, pace=ASKED)
            with monkeypatch.context() as patch:
                patch.setattr(jwks, "jwks_keys", fail)
                async with fetching(keys):
                    await fetches(keys, 1)
    assert logs[0]["event"] == "jwks.broken"
    assert logs[1]["reason"] == "the server failed (RuntimeError)"


async def test_who_waits_at_the_end_is_told() -> None:
    """A node that stops leaves nobody waiting, and takes no new ones."""
    async with issuing("rsa") as issuer:
        issuer.gate.clear()
        keys = JwksKeys(issuer.url, pace=ASKED)
        async with fetching(keys) as verifier:
            waits = asyncio.create_task(refusal(verifier, signed("rsa")))
            await asked_times(issuer, 1)
        assert type(await waits) is KeysUnavailable
        assert type(await refusal(verifier, signed("rsa"))) is KeysUnavailable


async def test_query_of_the_address_is_not_logged() -> None:
    """It may hold a key of the issuer's."""
    with capture_logs() as logs:
        async with issuing("rsa") as issuer:
            keys = JwksKeys(f"{issuer.url}?key=hush-hush", pace=ASKED)
            async with fetching(keys) as verifier:
                await verifier.verified(signed("rsa"))
                issuer.status = 500
                await refusal(verifier, signed("p256"))
            assert issuer.requests[0]["path"] == "/keys.json?key=hush-hush"
    assert "hush" not in str(logs)

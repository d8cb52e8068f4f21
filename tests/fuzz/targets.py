"""What is fuzzed: one function per door, that raises where a promise is broken.

A target takes any bytes. It may refuse them in the product's own words; every other exception is a
finding, and so is whatever the asserts say.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Final, cast
from urllib.parse import quote

import orjson
import yaml

from auth import access
from auth.access import Refusal
from auth.apps import AppRegistry
from auth.errors import AuthError
from auth.principal import principal_from_claims
from auth.request_auth import sign_request
from auth.tokens import TokenVerifier, hmac_key
from channels_spec.pusher import MAX_EVENT_DATA, is_channel_name, kind_of
from channels_spec.reading import HOTEL_CONTRACT
from server.broker.interface import Broker, Receipt
from server.broker.message import Publication
from server.broker.occupancy import Occupancy
from server.encoding import Event
from server.errors import PublishRefused
from server.http.api import Api
from server.http.past import PastEvents
from server.http.stream import EventStreams
from server.publisher import ContractMode, Publisher
from server.revoking import Revoking, read_revocation
from tests import oracle
from tests.harness import JWT_SECRET
from tests.people import CONTRACT, NOW, guest, service, staff
from tests.server.stage import APPS, Stage
from tests.visibility import CARD_NUMBER, place

Target = Callable[[bytes], None]
_CLAIMS: Final = {
    "sub": "12",
    "hotels": [{"slug": "grand", "id": "1", "roles": ["front_desk"]}],
    "conversations": ["c2"],
}
_UNEXPECTED: Final = 1011
_CARD: Final = re.compile(f"(?<![A-Za-z0-9]){CARD_NUMBER}(?![A-Za-z0-9])")
"""As the contract has it: standing alone between non-alphanumerics."""


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    return document


# --- frames ---------------------------------------------------------------------------------------


def frames(data: bytes) -> None:
    """A client's messages, one a line: each is answered, and none is our own fault."""
    stage = _stage()
    socket = stage.enter(APPS[0], None if data[:1] == b"?" else _CLAIMS)
    for line in data.removeprefix(b"?").split(b"\n")[:64]:
        socket.session.receive(line)
        stage.settle()
    stage.turn()
    assert socket.closed != _UNEXPECTED, "the server failed on a message"
    for frame in _sent(socket.got):
        message = json.loads(frame)
        assert isinstance(message["event"], str)
    socket.session.lost(1001)
    stage.turn()
    assert not stage.hub.sessions
    assert stage.hub.channel_count == 0


@cache
def _stage() -> Stage:
    return Stage(_document(), ContractMode.WARN)


def _sent(wire: bytes) -> list[bytes]:
    """Return the texts of unmasked WebSocket frames."""
    found, at = [], 0
    while at < len(wire):
        length, at = wire[at + 1], at + 2
        if length > 125:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(wire[at : at + size]), at + size
        found.append(wire[at : at + length])
        at += length
    return found


# --- envelopes ------------------------------------------------------------------------------------


class _Broker:
    """Takes whatever it is given."""

    ready = True

    def publish(self, publication: Publication) -> asyncio.Future[Receipt]:
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        receipt.set_result(Receipt(publication.event_id, 1, "e", duplicate=False))
        return receipt


@cache
def _publisher(mode: ContractMode) -> Publisher:
    return Publisher(CONTRACT, cast("Broker", _Broker()), mode=mode, serves_unlisted=False)


def envelopes(data: bytes) -> None:
    """A channel, an event's name and a body: refused, or out in views that hold their promises."""
    channel, name, body = (*data.split(b"\n", 2), b"", b"")[:3]
    event = Event(
        app_id="1",
        channel=channel.decode(errors="replace"),
        name=name.decode(errors="replace") or None,
        data=body.decode(errors="replace"),
    )
    for mode in ContractMode:
        try:
            publication = _publisher(mode).encode(event)
        except PublishRefused:
            continue
        for view, index in publication.views:
            frame = publication.frames[index]
            number = b'1,\\"epoch\\":\\"e' if publication.numbered else b""
            _hold(view, json.loads(frame.head + number + frame.tail), event.channel)


def _hold(view: str, message: dict[str, Any], channel: str) -> None:
    assert message["channel"] == channel
    text = message["data"]
    # The number is ours: what is said of size is said of the body before it.
    assert len(text) <= MAX_EVENT_DATA + 100
    body = json.loads(text)
    keys = [key for key in _keys(body) if view == "staff" and oracle.is_of_payment(key)]
    assert not keys, "payment fields in the view of all staff"
    assert not _CARD.search(text), "a card number"
    if view.startswith("guest"):
        allowed = {"category", "type", "payload", "meta"}
        assert set(body) <= allowed or "payload" not in body
        assert "primary_email" not in text.split('"payload"')[0] or "payload" not in body


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for item in value.values() for key in _keys(item))]
    if isinstance(value, list):
        return [key for item in value for key in _keys(item)]
    return []


# --- channel names --------------------------------------------------------------------------------


def channels(data: bytes) -> None:
    """A name: read as the contract's text says, and opened to nobody of another hotel."""
    name = data.decode(errors="replace")
    kind_of(name)
    match = CONTRACT.match(name)
    where = place(_document(), name) if name.isascii() else None
    if not is_channel_name(name):
        return
    assert (match is None) == (where is None), "the contract is read otherwise"
    if match is None or where is None:
        return
    people = (
        staff({"slug": "grand", "id": "1"}, roles=["admin"], staff_id="12", conversations=["c2"]),
        guest("7", "STATUS_READ", "CHAT"),
        service("sea-view"),
    )
    for who in people:
        decision = access.decide(who, match)
        if isinstance(decision, Refusal):
            continue
        assert decision.any_hotel is None
        hotels = {slug for slug, _ in decision.views}
        assert hotels <= {entry.slug for entry in who.hotels}
        assert not where.hotel or hotels == {where.hotel}


# --- requests -------------------------------------------------------------------------------------


class _Redis:
    """Answers everything that reading endpoints ask, as if nothing were there."""

    async def channels(self, app_id: str, starting_with: str = "") -> dict[str, int]:
        return {starting_with + "x": 1}

    async def values(self, app_id: str, asked: Any) -> list[dict[Any, Any]]:
        return [dict.fromkeys(attributes, 0) for _, attributes in asked]

    async def user_ids(self, app_id: str, channel: str) -> list[str]:
        return []

    async def connections(self, app_id: str) -> int:
        return 0

    async def terminate(self, app_id: str, user_id: str) -> None:
        return None

    async def obey(self, asked: dict[str, object]) -> str:
        read_revocation(asked)
        return "id"

    async def open(self, request: Any) -> Any:
        raise PublishRefused(404, "nothing is live here")

    async def events(self, request: Any) -> Any:
        raise PublishRefused(404, "no history here")


async def _elsewhere(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@cache
def _api() -> Api:
    return Api(
        apps=AppRegistry(APPS),
        publisher=_publisher(ContractMode.WARN),
        occupancy=cast("Occupancy", _Redis()),
        revoking=cast("Revoking", _Redis()),
        past=cast("PastEvents", _Redis()),
        streams=cast("EventStreams", _Redis()),
        otherwise=_elsewhere,
        clock=lambda: NOW,
    )


def requests(data: bytes) -> None:
    """Method, path, query and body, a line each; answered, and never obeyed without a signature.

    A first line that begins with `!` has the request signed by the app.
    """
    head, path, query, body = (*data.split(b"\n", 3), b"", b"", b"")[:4]
    signed = head.startswith(b"!")
    method = head.removeprefix(b"!").decode("latin-1")
    raw_path = b"/apps/1/" + quote(path.decode("latin-1"), safe="/%:@,;=").encode()
    if signed:
        pairs = [part.partition(b"=") for part in query.split(b"&") if part]
        extra = {name.decode("latin-1"): value.decode("latin-1") for name, _, value in pairs}
        whole = sign_request(APPS[0], method, raw_path.decode(), body, NOW, extra)
        query = "&".join(f"{quote(k)}={quote(v)}" for k, v in whole.items()).encode()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "raw_path": raw_path,
        "path": raw_path.decode(),
        "query_string": query,
        "headers": [],
    }
    _run(_api()(scope, receive, send))
    status = sent[0]["status"]
    assert 200 <= status < 500, status
    assert signed or status >= 400, "obeyed without a signature"
    content = b"".join(message.get("body", b"") for message in sent[1:])
    if content and status != 404:
        json.loads(content)


def _run(awaitable: Awaitable[None]) -> None:
    loop = _loop()
    loop.run_until_complete(awaitable)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


# --- tokens ---------------------------------------------------------------------------------------

_VERIFIER: Final = TokenVerifier([hmac_key(JWT_SECRET)])


def tokens(data: bytes) -> None:
    """A token, or claims that are signed here: refused, or a principal that says no more.

    Data that begins with `{` are claims.
    """
    token = _signed(data) if data[:1] == b"{" else data.decode("latin-1")
    try:
        who = _VERIFIER.verify(token, NOW)
    except AuthError:
        return
    head, _, signature = token.rpartition(".")
    expected = {
        hmac.digest(JWT_SECRET.encode(), head.encode(), name)
        for name in ("sha256", "sha384", "sha512")
    }
    assert urlsafe_b64decode(signature + "==") in expected, "a forgery"
    assert who.exp > NOW
    # What /pusher/auth signs of it is read back as the same.
    again = principal_from_claims(json.loads(orjson.dumps({"sub": who.sub, **who.claims()})))
    assert again == who


def _signed(claims: bytes) -> str:
    parts = [b'{"alg":"HS256"}', claims]
    head = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(JWT_SECRET.encode(), head, hashlib.sha256)
    return (head + b"." + urlsafe_b64encode(signature).rstrip(b"=")).decode()


TARGETS: Final[dict[str, Target]] = {
    "frames": frames,
    "envelopes": envelopes,
    "channels": channels,
    "requests": requests,
    "tokens": tokens,
}

"""Staff users on WebSockets, each now and then publishing through the HTTP API.

Figures: `connect` (to the Pusher handshake), `subscribe` (signin included), `publish` (the HTTP
call) and `deliver` (from just before a publish until a user has it, for each user that gets it).
A number missing from a channel's sequence is a failed `deliver`; a lost connection fails `stay`.
"""

import itertools
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypedDict
from urllib.parse import urlsplit

import gevent  # type: ignore[import-untyped]  # gevent ships no annotations
import websocket
from locust import User, between, task
from pusher import Pusher
from pusher.errors import PusherError
from requests import RequestException

from loadtest.hotel import EVENT, HOTEL, Keys, room_updated, rooms_channel, staff_token

ANSWER_TIMEOUT_S = 10.0
CLIENT_QUERY = "protocol=7&client=locust&version=1"
DEMO = Keys(
    app_id="1",
    key="bellhop-demo",
    secret="bellhop-demo-secret-known-to-all",
    jwt_secret="bellhop-demo-jwt-secret-known-to-all",
)
HOTELS = os.environ.get("LOADTEST_HOTELS", HOTEL).split(",")
NETWORK_ERRORS = (websocket.WebSocketException, OSError)

_numbers = itertools.count(1)


class Refused(Exception):
    """The server answered, and said no."""


class PusherFrame(TypedDict, total=False):
    """One frame of the Pusher protocol, as far as it is read here."""

    event: str
    data: str | dict[str, object]


class FrontDesk(User):
    """One member of staff: signs in, watches the rooms of one hotel, changes a room at times."""

    host = os.environ.get("BELLHOP_URL", "http://127.0.0.1:6001")
    wait_time = between(2, 5)

    def on_start(self) -> None:
        """Connect, sign in, subscribe."""
        number = next(_numbers)
        self.sub = f"locust-{number}"
        self.hotel = HOTELS[number % len(HOTELS)]
        self.keys = Keys.from_environment(DEMO)
        address = urlsplit(str(self.host))
        tls = address.scheme == "https"
        self.url = f"{'wss' if tls else 'ws'}://{address.netloc}/app/{self.keys.key}?{CLIENT_QUERY}"
        self.publisher = Pusher(
            app_id=self.keys.app_id,
            key=self.keys.key,
            secret=self.keys.secret,
            host=address.hostname,
            port=address.port or (443 if tls else 80),
            ssl=tls,
        )
        self.receiver = gevent.spawn(self._receive)

    def on_stop(self) -> None:
        """Leave without counting that as a loss."""
        self.receiver.kill()

    @task
    def publish(self) -> None:
        """Change a room, as the hotel's backend would; come back first where the server is lost."""
        if self.receiver.dead:
            self.receiver = gevent.spawn(self._receive)
        envelope = room_updated(self.hotel, random.randint(101, 140))
        with suppress(PusherError, RequestException), self._timed("publish"):
            self.publisher.trigger(rooms_channel(self.hotel), EVENT, envelope)

    def _receive(self) -> None:
        """Be connected and read; what goes wrong is counted, and ends it."""
        self.sequence = 0
        self.socket = websocket.WebSocket(enable_multithread=True)
        with suppress(Refused, *NETWORK_ERRORS):
            try:
                self._enter()
                with self._timed("stay"):
                    while True:
                        self._deliver(self._next_frame())
            finally:
                self.socket.close(timeout=0)

    def _enter(self) -> None:
        with self._timed("connect"):
            # websocket-client says it is typed, and left this one out.
            self.socket.connect(self.url, timeout=ANSWER_TIMEOUT_S)  # type: ignore[no-untyped-call]
            self._await("pusher:connection_established")
        token = staff_token(self.keys, self.sub, self.hotel)
        with self._timed("subscribe"):
            self._send("pusher:signin", {"auth": token, "user_data": json.dumps({"id": self.sub})})
            self._await("pusher:signin_success")
            self._send("pusher:subscribe", {"channel": rooms_channel(self.hotel)})
            self._await("pusher_internal:subscription_succeeded")
        self.socket.settimeout(None)

    def _deliver(self, frame: PusherFrame) -> None:
        """Count an event of the channel, its latency where it is one of ours."""
        data = frame.get("data")
        envelope = json.loads(data) if isinstance(data, str) else {}
        sequence = envelope.get("meta", {}).get("sequence")
        if sequence is None:
            return
        before, self.sequence = self.sequence, sequence
        published_at = envelope["payload"].get("published_at")
        if before and sequence != before + 1:
            self._fire("deliver", 0, 0, Refused(f"sequence {sequence} after {before}"))
        elif published_at is not None:
            self._fire("deliver", (time.time() - published_at) * 1000, len(str(data)), None)

    def _await(self, event: str) -> None:
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._next_frame()["event"] == event:
                return
        raise Refused(f"no {event} within {ANSWER_TIMEOUT_S} s")

    def _next_frame(self) -> PusherFrame:
        """Read one frame, answering a ping and raising on an error."""
        text = self.socket.recv()
        if not text:
            raise websocket.WebSocketConnectionClosedException("closed by the server")
        frame: PusherFrame = json.loads(text)
        match frame["event"]:
            case "pusher:ping":
                self._send("pusher:pong", {})
            case "pusher:error" | "pusher:subscription_error" | "bellhop:gap":
                raise Refused(f"{frame['event']} {frame.get('data')}")
            case _:
                pass
        return frame

    def _send(self, event: str, data: dict[str, str]) -> None:
        self.socket.send(json.dumps({"event": event, "data": data}))

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Fire a Locust event for the block, a failed one where it raises."""
        started = time.perf_counter()
        try:
            yield
        except (PusherError, RequestException, Refused, *NETWORK_ERRORS) as failure:
            self._fire(name, (time.perf_counter() - started) * 1000, 0, failure)
            raise
        self._fire(name, (time.perf_counter() - started) * 1000, 0, None)

    def _fire(self, name: str, milliseconds: float, length: int, failure: Exception | None) -> None:
        self.environment.events.request.fire(
            request_type="HTTP" if name == "publish" else "WS",
            name=name,
            response_time=milliseconds,
            response_length=length,
            exception=failure,
            context={},
        )

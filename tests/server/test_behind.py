"""Clients that do not keep up: what waits, what is conflated, and when it is too much."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from random import Random
from typing import cast

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from auth.access import Grant
from server.outbox import Outbox, Waiting, offer_all
from tests.harness import DEADLINE_S, eventually
from tests.server.room import KEY, Room, Wire, message

STAFF = Grant(views=(("a", "staff"),))


@pytest.fixture
def wire() -> Wire:
    """A transport that remembers."""
    return Wire()


@pytest.fixture
def outbox(wire: Wire) -> Outbox:
    """An outbox in which ten bytes may wait."""
    return Outbox(wire, limit=10)


def test_outbox_writes_at_once_while_the_transport_takes_bytes(outbox: Outbox, wire: Wire) -> None:
    """Nothing is kept, and an offer is done with."""
    assert outbox.offer(b"a") is None
    assert outbox.send(b"b")
    assert wire.written == [b"a", b"b"]
    assert outbox.waiting_bytes == 0


def test_outbox_keeps_in_order_while_paused(outbox: Outbox, wire: Wire) -> None:
    """What waited goes out as one piece, and then the way is free again."""
    outbox.pause()
    assert outbox.offer(b"lost unless kept") is not None
    assert outbox.send(b"ab")
    assert outbox.keep([Waiting(b"c"), Waiting(b"d")])
    assert (wire.written, outbox.waiting_bytes) == ([], 4)
    outbox.pause()
    outbox.resume()
    assert outbox.send(b"e")
    assert (wire.written, outbox.waiting_bytes) == ([b"abcd", b"e"], 0)


def test_outbox_owes_what_was_missed_however_much_it_is(outbox: Outbox, wire: Wire) -> None:
    """In order, and beside what may wait: whoever was closed for it would come back to the same."""
    outbox.owe(b"at once")
    outbox.pause()
    assert outbox.send(b"ab")
    outbox.owe(b"much more than ten bytes")
    assert outbox.send(b"cdefghij")
    assert (wire.written, outbox.waiting_bytes) == ([b"at once"], 10)
    outbox.resume()
    assert wire.written[1:] == [b"abmuch more than ten bytescdefghij"]
    outbox.close()
    outbox.owe(b"x")
    assert len(wire.written) == 2


def test_outbox_resumes_with_nothing_to_write(outbox: Outbox, wire: Wire) -> None:
    """A pause in which nothing came leaves no trace."""
    outbox.pause()
    outbox.resume()
    assert wire.written == []


def test_outbox_tells_a_slow_consumer(outbox: Outbox) -> None:
    """Ten bytes may wait here; the eleventh is too much."""
    outbox.pause()
    assert outbox.send(b"0123456789")
    assert not outbox.send(b"x")


def test_outbox_keeps_only_the_latest_of_a_key(outbox: Outbox, wire: Wire) -> None:
    """A later event takes the room of an earlier one, not its place."""
    outbox.pause()
    assert outbox.keep([Waiting(b"aaaa", "k"), Waiting(b"b"), Waiting(b"cccc", "other")])
    assert outbox.keep([Waiting(b"AAAA", "k")])
    assert outbox.waiting_bytes == 9
    outbox.resume()
    assert wire.written == [b"bccccAAAA"]


def test_outbox_does_not_grow_with_what_was_conflated_away(wire: Wire) -> None:
    """A tablet that sleeps for a day while its rooms change costs what its last events cost."""
    outbox = Outbox(wire, limit=100)
    outbox.pause()
    assert outbox.keep([Waiting(b"first"), Waiting(b"a", "a")])
    for number in range(5_000):
        assert outbox.keep([Waiting(b"%04d" % number, "b")])
    assert len(outbox._waiting) < 1_100  # noqa: SLF001  its memory is the point
    assert outbox.keep([Waiting(b"A", "a")])
    outbox.resume()
    assert wire.written == [b"first4999A"]


def test_outbox_sends_nothing_after_its_end(outbox: Outbox, wire: Wire) -> None:
    """Closed is closed, whatever the transport tells afterwards."""
    outbox.pause()
    outbox.send(b"a")
    outbox.close()
    assert outbox.send(b"b")
    outbox.resume()
    outbox.pause()
    assert outbox.send(b"c")
    assert (wire.written, outbox.waiting_bytes) == ([], 0)


@given(st.lists(st.tuples(st.sampled_from(["", "x", "y"]), st.integers(0, 9)), max_size=30))
def test_outbox_conflates_like_its_model(events: list[tuple[str, int]]) -> None:
    """Of each key the last one is sent, of the others all, in the order of what is left."""
    wire = Wire()
    outbox = Outbox(wire, limit=1_000)
    outbox.pause()
    for key, number in events:
        assert outbox.keep([Waiting(b"%d" % number, key)])
    outbox.resume()
    last = {key: place for place, (key, _) in enumerate(events) if key}
    left = [str(n) for place, (key, n) in enumerate(events) if not key or last[key] == place]
    assert b"".join(wire.written).decode() == "".join(left)


# --- past the transport --------------------------------------------------------------------------


class Kernel:
    """A socket's `send` of which each call takes what it is told, or fails."""

    def __init__(self, *takes: int | OSError) -> None:
        self.takes = list(takes)
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        takes = self.takes.pop(0) if self.takes else len(data)
        if isinstance(takes, OSError):
            raise takes
        self.sent.append(data[:takes])
        return len(self.sent[-1])


def test_outbox_gives_the_transport_what_the_kernel_does_not_take(wire: Wire) -> None:
    """The rest of a frame, or all of it where the buffer is full or the socket is gone."""
    kernel = Kernel(2, BlockingIOError(), BrokenPipeError())
    outbox, other = Outbox(wire, limit=10), Outbox(Wire(), limit=10)
    outbox.go_direct(kernel.send)
    assert offer_all([outbox, other], b"abcd") == []
    assert outbox.send(b"efgh")
    assert offer_all([outbox], b"ijkl") == []
    assert outbox.send(b"mnop")
    assert (kernel.sent, wire.written) == ([b"ab", b"mnop"], [b"cd", b"efgh", b"ijkl"])


def test_outbox_keeps_behind_what_the_transport_has(wire: Wire) -> None:
    """Nothing overtakes the rest of a frame; then the way past the transport is free again."""
    kernel = Kernel(1)
    outbox = Outbox(wire, limit=10)
    outbox.go_direct(kernel.send)
    assert outbox.send(b"ab")
    outbox.pause()
    assert offer_all([outbox], b"cd") == [outbox]
    assert outbox.send(b"cd")
    assert not outbox.send(b"0123456789")
    outbox.resume()
    assert outbox.send(b"ef")
    assert (kernel.sent, wire.written) == ([b"a", b"ef"], [b"b", b"cd"])


def test_outbox_goes_direct_when_it_is_no_longer_paused(wire: Wire) -> None:
    """What waits comes first; and a closed one stays closed."""
    kernel = Kernel()
    outbox, closed = Outbox(wire, limit=10), Outbox(wire, limit=10)
    outbox.pause()
    outbox.go_direct(kernel.send)
    assert outbox.send(b"a")
    assert kernel.sent == []
    outbox.resume()
    assert outbox.send(b"b")
    closed.close()
    closed.go_direct(kernel.send)
    assert closed.send(b"c")
    assert (kernel.sent, wire.written) == ([b"b"], [b"a"])


class Direct(asyncio.Protocol):
    """A connection whose outbox goes past its transport, as a WebSocket's does."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pauses = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Go direct at once: nothing has been written."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=0)
        self.outbox = Outbox(self.transport, limit=1 << 30)
        self.outbox.go_direct(self.connection.send)

    def pause_writing(self) -> None:
        """Tell the outbox."""
        self.pauses += 1
        self.outbox.pause()

    def resume_writing(self) -> None:
        """Likewise."""
        self.outbox.resume()


def test_bytes_keep_their_order_whoever_writes_them() -> None:
    """On a real socket, read by fits and starts, past uvloop's transport and through it."""

    async def talk(random: Random) -> int:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        loop = asyncio.get_running_loop()
        _, protocol = await loop.connect_accepted_socket(partial(Direct, ours), ours)
        reader, writer = await asyncio.open_connection(sock=theirs)
        said: list[bytes] = []
        heard = bytearray()
        for number in range(400):
            data = b"%06d" % number * random.choice((1, 20, 2_000))
            match random.randrange(4):
                case 0 if not protocol.transport.get_write_buffer_size():
                    # A pong; where something waits in the outbox it may come before that.
                    protocol.transport.write(data)
                case 1:
                    for outbox in offer_all([protocol.outbox], data):
                        assert outbox.keep([Waiting(data)])
                case _:
                    assert protocol.outbox.send(data)
            said.append(data)
            if not random.randrange(8):
                heard += await reader.read(random.choice((100, 30_000)))
        while len(heard) < sum(map(len, said)):
            heard += await asyncio.wait_for(reader.read(65_536), DEADLINE_S)
        assert bytes(heard) == b"".join(said)
        assert ours.fileno() >= 0
        writer.close()
        protocol.transport.abort()
        await eventually(lambda: ours.fileno() < 0)
        with pytest.raises(OSError, match="Bad file descriptor"):
            # A number that the next connection may have: the socket's own `send` knows it is gone.
            ours.send(b"x")
        return protocol.pauses

    assert sum(uvloop.run(talk(Random(seed))) for seed in range(10)) > 10


# --- at the hub ----------------------------------------------------------------------------------


def occupancy(room: Room, text: str, key: str, exclude: str = "") -> None:
    """Fan out an event with a conflation key."""
    event = message({"staff": text.encode()}, "a", exclude)
    event.conflation_key = key
    room.hub.fan_out(*KEY, event)
    room.turn()


def test_subscriber_that_is_behind_gets_the_latest_per_key() -> None:
    """The other subscriber, who keeps up, has had them all."""
    room = Room()
    behind, ahead = room.client("1.1", STAFF), room.client("1.2", STAFF)
    behind.outbox.pause()
    for text, key in (("101-in", "101"), ("102-in", "102"), ("note", ""), ("101-out", "101")):
        occupancy(room, text, key)
    behind.outbox.resume()
    assert behind.got == ["102-in", "note", "101-out"]
    assert ahead.got == ["101-in", "102-in", "note", "101-out"]


def test_subscriber_that_is_behind_does_not_get_its_own_event() -> None:
    """The excluded socket is excluded while it waits, too."""
    room = Room()
    mine, other = room.client("1.1", STAFF), room.client("1.2", STAFF)
    mine.outbox.pause()
    other.outbox.pause()
    occupancy(room, "mine", "", exclude="1.1")
    occupancy(room, "next", "")
    mine.outbox.resume()
    other.outbox.resume()
    assert (mine.got, other.got) == (["next"], ["mine", "next"])


def test_subscriber_that_is_too_far_behind_is_ended() -> None:
    """A slow consumer costs its own connection and nobody else anything."""
    room = Room()
    slow, other = room.client("1.1", STAFF, limit=8), room.client("1.2", STAFF)
    slow.outbox.pause()
    for number in range(3):
        occupancy(room, f"event{number}", "")
    assert slow.fell == 1
    assert room.hub.slow_consumers == 1
    assert other.got == ["event0", "event1", "event2"]


def test_subscriber_gets_only_what_its_filter_lets_through() -> None:
    """A filter is a group of its own; whoever has none hears everything."""
    room = Room()
    narrow = Grant(views=STAFF.views, scope=(("room_number", frozenset({"101"})),))
    one, everything = room.client("1.1", narrow), room.client("1.2", STAFF)
    for number in ("101", "102"):
        event = message({"staff": number.encode()}, "a")
        event.filter_values = (("room_number", number),)
        room.hub.fan_out(*KEY, event)
    room.turn()
    assert (one.got, everything.got) == (["101"], ["101", "102"])

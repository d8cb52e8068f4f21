"""The floor: a bare loop of `send` in a process that does nothing else."""

import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from loadtest.server import HOST, raise_open_files


class FloorFailed(Exception):
    """The floor could not send everything."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The sending process, as the measuring one sees it."""

    control: Connection
    port: int

    def wait_connected(self) -> None:
        """Wait until it has accepted all of its connections."""
        self.control.recv()

    def send(self, data: bytes) -> float:
        """Send `data` once to every connection; answer the CPU seconds of the loop alone."""
        self.control.send(data)
        try:
            return float(self.control.recv())
        except EOFError:
            raise FloorFailed("the floor process ended early; its last words are above") from None


def _floor_process(control: Connection, connections: int) -> None:
    raise_open_files()
    with socket.create_server((HOST, 0), backlog=1024) as listener:
        control.send(listener.getsockname()[1])
        accepted = [listener.accept()[0] for _ in range(connections)]
    for connection in accepted:
        connection.settimeout(0)  # non-blocking
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    control.send(None)
    sends = [connection.send for connection in accepted]
    while data := _next(control):
        start = time.process_time()
        sent = 0
        for send in sends:
            sent += send(data)
        spent = time.process_time() - start
        if sent != len(data) * connections:
            raise BlockingIOError(f"{sent} bytes sent, {len(data) * connections} expected")
        control.send(spent)


def _next(control: Connection) -> bytes:
    try:
        return bytes(control.recv())
    except EOFError:
        return b""


@contextmanager
def floor(connections: int) -> Iterator[Floor]:
    """Run the sending process until the block ends; it accepts exactly `connections`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_floor_process, args=(theirs, connections), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Floor(ours, ours.recv())
    finally:
        ours.close()
        process.join(timeout=10)
        if process.is_alive():
            process.kill()

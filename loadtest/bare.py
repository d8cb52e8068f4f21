"""The floor of `loadtest.trigger`: a bare ASGI callable that answers `{}` to every request."""

import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import uvicorn
import uvloop
from starlette.types import Message, Receive, Scope, Send

from loadtest.server import HOST, process_cpu_s

_START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
}
_BODY: Message = {"type": "http.response.body", "body": b"{}"}


@dataclass(frozen=True, slots=True)
class Bare:
    """The answering process, as the measuring one sees it."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """User and system time of the process, in seconds."""
        return process_cpu_s(self.pid)


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    del scope
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_BODY)


def _bare_process(control: Connection) -> None:
    listening = socket.create_server((HOST, 0), backlog=1024)
    config = uvicorn.Config(
        _answer,
        loop="none",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=600,
        timeout_graceful_shutdown=1,
    )
    control.send(listening.getsockname()[1])
    uvloop.run(uvicorn.Server(config).serve(sockets=[listening]))


@contextmanager
def bare_server() -> Iterator[Bare]:
    """Run the answering process until the block ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_bare_process, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        # Its socket takes connections from here on; uvicorn comes to them when it is up.
        yield Bare(int(ours.recv()), process.pid or 0)
    finally:
        process.terminate()
        process.join(timeout=10)
        if process.is_alive():
            process.kill()

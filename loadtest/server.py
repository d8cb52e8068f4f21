"""A `bellhop serve` of the benchmark's own, and what its process costs."""

import contextlib
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import psutil

from loadtest.hotel import Keys

HOST = "127.0.0.1"
READY_DEADLINE_S = 30.0
STOP_DEADLINE_S = 15.0
_POLL_S = 0.05


class ServerFailed(Exception):
    """The server under test did not start, stopped early, or is not what it seemed."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A ready server: its address, the processes of its nodes and of its embedded broker."""

    port: int
    pids: tuple[int, ...]
    broker_pid: int
    keys: Keys

    @property
    def redis_url(self) -> str:
        """Where a backend publishes: the embedded Valkey, one port above."""
        return f"redis://{HOST}:{self.port + 1}"

    def cpu_s(self) -> float:
        """User and system time of the nodes' processes alone, in seconds."""
        return sum(map(process_cpu_s, self.pids))

    def surviving(self) -> "RunningServer":
        """Return the same without the nodes that are gone."""
        return replace(self, pids=tuple(filter(psutil.pid_exists, self.pids)))

    def broker_cpu_s(self) -> float:
        """User and system time of the embedded Valkey, in seconds."""
        return process_cpu_s(self.broker_pid)

    def rss_bytes(self) -> int:
        """Resident memory of the nodes' processes alone."""
        return sum(int(psutil.Process(pid).memory_info().rss) for pid in self.pids)

    @property
    def broker_rss_bytes(self) -> int:
        """Resident memory of the embedded Valkey."""
        return int(psutil.Process(self.broker_pid).memory_info().rss)


def process_cpu_s(pid: int) -> float:
    """Read another process's CPU time, all threads, user and system.

    Linux keeps a nanosecond clock for every process (`clock_getcpuclockid(3)`), the very clock
    that `time.process_time` reads for the calling one. The counters behind psutil step by 10 ms,
    which is too coarse for a round of a few hundred milliseconds.
    """
    if platform.system() == "Linux":
        return time.clock_gettime((~pid << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def raise_open_files() -> None:
    """Lift this process's soft limit of open files to its hard limit; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # macOS reports "infinite" and refuses it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def find_bellhop(given: str | None) -> str:
    """Name the command: as given, else beside this interpreter, else on the PATH."""
    if given:
        return given
    beside = Path(sys.executable).with_name("bellhop")
    found = str(beside) if beside.exists() else shutil.which("bellhop")
    if found is None:
        message = "no `bellhop` beside this interpreter or on the PATH; give --bellhop"
        raise ServerFailed(message)
    return found


@contextlib.contextmanager
def serve(
    bellhop: str, settings: Mapping[str, str] | None = None, *, workers: int = 1
) -> Iterator[RunningServer]:
    """Run nodes with an embedded Valkey on free loopback ports, until the block ends."""
    keys = Keys()
    port = _free_port_pair()
    # Settings of the caller's shell must not leak into a measurement.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BELLHOP_", "PUSHER_", "REDIS_"))
    }
    environment |= keys.environment() | {"BELLHOP_CONTRACT_MODE": "off"} | dict(settings or {})
    command = [bellhop, "serve", "--host", HOST, "--port", str(port)]
    if workers > 1:
        command += ["--workers", str(workers)]
    # In a directory of its own, so that no other bellhop.toml is picked up. Output goes to a file:
    # a pipe that nobody reads would block the server.
    with tempfile.TemporaryDirectory() as cwd, tempfile.TemporaryFile() as output:
        # What is measured is what the server can do, not what it lets one hotel do.
        Path(cwd, "bellhop.toml").write_text("[walls]\npublishes_per_s = 0\n", encoding="utf-8")
        process = subprocess.Popen(
            command, env=environment, cwd=cwd, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait_ready(process, port, output)
            yield RunningServer(
                port=port,
                pids=_listeners(process.pid, port, workers),
                broker_pid=_listeners(process.pid, port + 1, 1)[0],
                keys=keys,
            )
        finally:
            _stop(process)


def _free_port_pair() -> int:
    """Find a port whose neighbour above is free too: the embedded Valkey takes that one."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind((HOST, 0))
            port = int(first.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                second.bind((HOST, port + 1))
                return port
    message = "no two neighbouring free ports"
    raise ServerFailed(message)


def _wait_ready(process: subprocess.Popen[bytes], port: int, output: IO[bytes]) -> None:
    deadline = time.monotonic() + READY_DEADLINE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, urllib.error.URLError):
            url = f"http://{HOST}:{port}/health/ready"
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        time.sleep(_POLL_S)
    output.seek(0)
    tail = output.read().decode(errors="replace")[-2000:]
    message = f"{process.args!r} was not ready (exit code {process.poll()}):\n{tail}"
    raise ServerFailed(message)


def _listeners(pid: int, port: int, expected: int) -> tuple[int, ...]:
    """Find which of the command's processes listen on `port`.

    The command might be a shell wrapper or fork workers; billing the wrong process would
    make every number look splendid. A supervisor holds its workers' socket too, and does nothing.
    """
    parent = psutil.Process(pid)
    owners = {
        int(process.pid)
        for process in [parent, *parent.children(recursive=True)]
        for listening in process.net_connections("tcp")
        if listening.status == psutil.CONN_LISTEN and listening.laddr.port == port
    }
    if len(owners) > 1:
        owners.discard(pid)
    if len(owners) != expected:
        message = f"expected {expected} processes listening on port {port}, found {owners}"
        raise ServerFailed(message)
    return tuple(sorted(owners))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

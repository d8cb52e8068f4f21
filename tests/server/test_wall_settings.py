"""Settings of walls, proxies and the authorizer: what is wrong is told with its path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from channels_spec.reading import HOTEL_CONTRACT
from server.config import load_settings
from server.errors import ConfigError
from server.transports.admission import AdmissionLimits
from server.wall_settings import WallSettings
from server.walls import WallLimits
from tests.harness import ROOT, environment


def problems(tmp_path: Path, toml: str) -> tuple[str, ...]:
    """Return what is wrong with a file; nothing where it is good."""
    file = tmp_path / "bellhop.toml"
    file.write_text(toml, "utf-8")
    try:
        load_settings(file, {}, {})
    except ConfigError as error:
        return error.problems
    return ()


def checked(*arguments: str, **settings: str) -> tuple[int, str]:
    """Run `bellhop check`; return its exit code and what it says is wrong."""
    command = [sys.executable, "-m", "server", "check", *arguments]
    where = {**environment(settings), "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    ended = subprocess.run(command, env=where, cwd=ROOT, capture_output=True, check=False)
    return ended.returncode, ended.stderr.decode()


def test_walls_are_those_of_the_code_by_default() -> None:
    """The settings and the code agree on what is there when nothing is said."""
    assert WallSettings().limits() == WallLimits()
    assert WallSettings().admission() == AdmissionLimits()


@pytest.mark.parametrize(
    "toml, path, why",
    [
        ('[server]\ntrusted_proxies = ["10.0.0.1/8"]', "server.trusted_proxies.0", "host bits"),
        ('[server]\ntrusted_proxies = ["::1", "nginx"]', "server.trusted_proxies.1", "addresses"),
        ('[server]\ntrusted_proxies = ["0.0.0.0/0"]', "server.trusted_proxies.0", "everybody"),
        ('[server]\ntrusted_proxies = ["::/0"]', "server.trusted_proxies.0", "everybody"),
        ('[server]\ntrusted_proxies = "10.0.0.1"', "server.trusted_proxies", "tuple"),
        ("[walls]\nhandshakes_per_s = -1", "walls.handshakes_per_s", "greater than"),
        ("[walls]\nwaiting_handshakes = -1", "walls.waiting_handshakes", "greater than"),
        ("[walls]\nhandshakes_turn_ms = 0", "walls.handshakes_turn_ms", "greater than"),
        ("[walls]\npublishes_burst = 0", "walls.publishes_burst", "greater than"),
        ("[walls]\nmessages_per_s = inf", "walls.messages_per_s", "finite"),
        ("[walls]\nhandshake_per_s = 1", "walls.handshake_per_s", "no such setting"),
        ('[authorizer]\nurl = "backend/may"', "authorizer.url (BELLHOP_AUTHORIZER_URL)", "HOST"),
        ("[authorizer]\ndeadline_s = 0", "authorizer.deadline_s", "greater than"),
        ("[authorizer]\ncache_s = 61", "authorizer.cache_s", "less than"),
    ],
)
def test_wrong_value_is_told_with_its_path(tmp_path: Path, toml: str, path: str, why: str) -> None:
    """One line: where, and what would be right."""
    (problem,) = problems(tmp_path, toml)
    assert problem.startswith(f"{path}: ")
    assert why in problem


@pytest.mark.parametrize(
    "toml",
    [
        '[server]\ntrusted_proxies = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "unix"]',
        "[walls]\nhandshakes_per_s = 0\nuser_connections = 0\nmessages_per_s = 0.5",
        '[authorizer]\nurl = "http://backend/may"\ndeadline_s = 0.5\ncache_s = 0',
    ],
)
def test_right_values_are_taken(tmp_path: Path, toml: str) -> None:
    """Networks and addresses of both kinds; 0 is off."""
    assert problems(tmp_path, toml) == ()


def test_check_tells_when_there_is_nobody_to_ask(tmp_path: Path) -> None:
    """A contract that names the callback authorizer needs its URL."""
    document = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    name, channel = next(iter(document["channels"].items()))
    channel["x-bellhop-authorizer"] = "callback"
    contract = tmp_path / "contract.yaml"
    contract.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    (tmp_path / "schemas").symlink_to(HOTEL_CONTRACT.parent / "schemas")
    code, said = checked(BELLHOP_CONTRACT=str(contract))
    assert code == 2
    assert said == (
        "bellhop: authorizer.url (BELLHOP_AUTHORIZER_URL): missing; the contract names it for"
        f" {name}, whose channels nobody could enter\n"
    )
    url = "http://127.0.0.1:1/may"
    assert checked(BELLHOP_CONTRACT=str(contract), BELLHOP_AUTHORIZER_URL=url) == (0, "")

"""The command line: what each command does, and one line for every mistake of its user."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest

from server.cli import main
from server.demo.keys import DEMO_JWT_SECRET, DEMO_SECRET
from tests.harness import DEADLINE_S, JWT_SECRET, Server, environment


@dataclass
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def mistakes(self) -> list[str]:
        """The lines about the user's mistakes: nothing else is on stderr."""
        lines = self.err.splitlines()
        assert all(line.startswith("bellhop: ") for line in lines), self.err
        assert self.out == ""
        return [line.removeprefix("bellhop: ") for line in lines]


Bellhop = Callable[..., Outcome]


@pytest.fixture
def bellhop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Bellhop:
    """Run the command in this process: an empty folder, good keys, and no other setting."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **settings: str) -> Outcome:
        with monkeypatch.context() as patch:
            for name in set(os.environ) - set(environment({})):
                patch.delenv(name)
            for name, value in environment(settings).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["bellhop", *arguments])
            with pytest.raises(SystemExit) as exited:
                main()
        captured = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return Outcome(exited.value.code, captured.out, captured.err)

    return run


NOWHERE = "http://127.0.0.1:1"
UNUSABLE: dict[str, tuple[tuple[str, ...], int, str]] = {
    "unknown command": (("nonsense",), 2, "No such command 'nonsense'"),
    "unknown option": (("serve", "--nonsense"), 2, "No such option '--nonsense'"),
    "missing argument": (("publish", "hotel.rooms"), 2, "Missing argument 'EVENT'"),
    "no workers": (("serve", "--workers", "0"), 2, "--workers"),
    "port of letters": (("serve", "--port", "http"), 2, "--port"),
    "port out of range": (("serve", "--port", "65535"), 2, "server.port"),
    "demo's port out of range": (("demo", "--port", "99999"), 2, "--port"),
    "host unknown": (("serve", "--host", "256.0.0.1"), 2, "cannot listen on 256.0.0.1:6001"),
    "folder of the socket": (("serve", "--uds", "no/x.sock"), 2, "cannot listen on no/x.sock"),
    "no certificate": (("serve", "--ssl-certfile", "no.pem"), 2, "no.pem: [Errno 2]"),
    "key without certificate": (("serve", "--ssl-keyfile", "x"), 2, "server.ssl_certfile: missing"),
    "no such file": (("check", "--config", "no.toml"), 2, "no.toml: No such file"),
    "file is a folder": (("check", "--config", "."), 2, ".: Is a directory"),
    "no hotel": (("token", "--sub", "a"), 2, "Missing option '--hotel'"),
    "bad slug": (("token", "--sub", "a", "--hotel", "a b"), 2, "slug of a hotel"),
    "all hotels": (("token", "--sub", "a", "--hotel", "*"), 2, "only a service token"),
    "no subject": (("token", "--sub", "", "--hotel", "h"), 2, '"sub" must not be empty'),
    "no booking": (("token", "--sub", "a", "--hotel", "h", "--kind", "guest"), 2, '"booking_id"'),
    "no life": (("token", "--sub", "a", "--hotel", "h", "--ttl", "0"), 2, "--ttl"),
    "many ids": (
        ("token", "--sub", "a", "--hotel", "h", "--hotel-id", "1", "--hotel-id", "2"),
        2,
        "--hotel-id",
    ),
    "data": (("publish", "h.rooms", "e", "--data", "{"), 2, "--data is not valid JSON"),
    "data's file": (("publish", "h.rooms", "e", "--data", "@no"), 2, "--data: No such file"),
    "way": (("publish", "h.rooms", "e", "--via", "mail"), 2, "--via"),
    "no Redis": (
        ("publish", "h.rooms", "e", "--via", "redis"),
        2,
        "redis.url (REDIS_URL): missing",
    ),
    "URL to publish": (("publish", "h.rooms", "e", "--url", "example.org"), 2, "http://HOST:PORT"),
    "URL to tail": (("tail", "h.rooms", "--url", "ftp://example.org"), 2, "http://HOST:PORT"),
    "URL's brackets": (("tail", "h.rooms", "--url", "http://["), 2, "http://HOST:PORT"),
    "no server to publish": (("publish", "h.rooms", "e", "--url", NOWHERE), 1, "is the server run"),
    "no server to tail": (("tail", "h.rooms", "--url", NOWHERE), 1, NOWHERE),
}


@pytest.mark.parametrize("mistake", UNUSABLE)
def test_wrong_use_is_one_line(bellhop: Bellhop, mistake: str) -> None:
    """The cause on stderr, 2 for wrong use and 1 for what failed; never a traceback."""
    arguments, code, cause = UNUSABLE[mistake]
    outcome = bellhop(*arguments)
    (line,) = outcome.mistakes
    assert outcome.code == code
    assert cause in line
    assert JWT_SECRET not in line


MISCONFIGURED: dict[str, tuple[dict[str, str], str]] = {
    "no key": ({"PUSHER_KEY": ""}, "app.key (PUSHER_KEY): missing"),
    "short token secret": ({"BELLHOP_JWT_SECRET": "short"}, "jwt.secret (BELLHOP_JWT_SECRET): the"),
    "no token key": ({"BELLHOP_JWT_SECRET": ""}, "tokens cannot be verified"),
    "public key's file": ({"BELLHOP_JWT_PUBLIC_KEY": "no.pem"}, "jwt.public_key"),
    "public key's text": ({"BELLHOP_JWT_PUBLIC_KEY": "-----BEGIN x"}, "not a PEM public key"),
    "unknown setting": ({"BELLHOP_PROT": "1"}, "BELLHOP_PROT: there is no such setting"),
    "seconds of letters": ({"BELLHOP_HISTORY_S": "long"}, "history.seconds (BELLHOP_HISTORY_S)"),
    "seconds below": ({"BELLHOP_PING_S": "0"}, "connection.ping_s (BELLHOP_PING_S)"),
    "endless seconds": ({"BELLHOP_DRAIN_S": "inf"}, "server.drain_s (BELLHOP_DRAIN_S)"),
    "mode": ({"BELLHOP_CONTRACT_MODE": "lax"}, "contract.mode (BELLHOP_CONTRACT_MODE)"),
    "switch": ({"BELLHOP_REQUIRE_TOKEN": "perhaps"}, "connection.require_token"),
    "contract": ({"BELLHOP_CONTRACT": "no.yaml"}, "contract.file (BELLHOP_CONTRACT): no.yaml"),
    "Redis's scheme": ({"REDIS_URL": "http://x"}, "redis.url (REDIS_URL)"),
    "Redis's port": ({"REDIS_URL": "redis://127.0.0.1:x"}, "redis.url (REDIS_URL)"),
    "no Redis": ({"REDIS_URL": "redis://127.0.0.1:1"}, "redis.url (REDIS_URL)"),
}


@pytest.mark.parametrize("mistake", MISCONFIGURED)
def test_wrong_setting_is_named(bellhop: Bellhop, mistake: str) -> None:
    """`check` names the path and the variable, and exits with 2."""
    settings, problem = MISCONFIGURED[mistake]
    outcome = bellhop("check", **settings)
    (line,) = outcome.mistakes
    assert outcome.code == 2
    assert problem in line


@pytest.mark.parametrize(
    "text, problem",
    [
        ("prot = 1", "prot: there is no such setting"),
        ("[server]\nprot = 1", "server.prot: there is no such setting"),
        (
            "[[apps]]\nid = '2'\nkey = 'k'\nsecret = 's'\nname = 'x'",
            "apps.0.name: there is no such",
        ),
        ("[[apps]]\nid = '2'", "apps.0.key: missing"),
        ("[[apps]]\nid = '1'\nkey = 'k'\nsecret = 's'", "two apps have the id '1'"),
        ("[server]\nport = 'http'", "server.port"),
        ("server = 5", "server"),
        ("app = 5", "app: expected a table"),
        ("[server", "bellhop.toml: not valid TOML"),
    ],
)
def test_file_is_read_strictly(bellhop: Bellhop, text: str, problem: str) -> None:
    """`bellhop.toml` of the folder; a key that nothing reads is a mistake, told by its path."""
    Path("bellhop.toml").write_text(text)
    outcome = bellhop("check")
    assert outcome.code == 2
    assert problem in outcome.mistakes[0]


def test_check_tells_every_problem_at_once(bellhop: Bellhop) -> None:
    """File, environment, keys, contract and Redis in one run, a line each."""
    Path("bellhop.toml").write_text("colour = 1\n[connection]\nping_s = 0\n")
    outcome = bellhop(
        "check",
        PUSHER_APP_ID="",
        PUSHER_KEY="",
        PUSHER_SECRET="",
        BELLHOP_JWT_SECRET="short",
        BELLHOP_CONTRACT="no.yaml",
        BELLHOP_PROT="1",
        REDIS_URL="redis://127.0.0.1:1",
    )
    assert outcome.code == 2
    starts = sorted(line.partition(":")[0].partition(" ")[0] for line in outcome.mistakes)
    assert starts == [
        "BELLHOP_PROT",
        "app.id",
        "app.key",
        "app.secret",
        "colour",
        "connection.ping_s",
        "contract.file",
        "jwt.secret",
        "redis.url",
    ]


@pytest.mark.parametrize("command", ["serve", "check"])
def test_server_refuses_to_start_without_secrets(bellhop: Bellhop, command: str) -> None:
    """All that is missing, by name; nothing is made up in its place."""
    missing = dict.fromkeys(
        ("PUSHER_APP_ID", "PUSHER_KEY", "PUSHER_SECRET", "BELLHOP_JWT_SECRET"), ""
    )
    outcome = bellhop(command, **missing)
    assert outcome.code == 2
    said = "\n".join(outcome.mistakes)
    assert all(name in said for name in missing)


@pytest.mark.parametrize(
    "settings, name",
    [
        ({"PUSHER_SECRET": DEMO_SECRET}, "PUSHER_SECRET"),
        ({"BELLHOP_JWT_SECRET": DEMO_JWT_SECRET}, "BELLHOP_JWT_SECRET"),
    ],
)
def test_server_refuses_the_demos_secrets(
    bellhop: Bellhop, settings: dict[str, str], name: str
) -> None:
    """What everybody knows is no secret."""
    outcome = bellhop("serve", **settings)
    (line,) = outcome.mistakes
    assert outcome.code == 2
    assert name in line


def test_help_lists_the_commands(bellhop: Bellhop) -> None:
    """`--help` and no command at all say what there is."""
    outcome = bellhop("--help")
    assert outcome.code == 0
    for command in ("serve", "demo", "token", "publish", "tail", "check"):
        assert f"\n  {command} " in outcome.out
        assert bellhop(command, "--help").code == 0
    assert bellhop().code == 2
    assert bellhop("--version").out.startswith("bellhop, version ")


def test_check_says_what_is_good(bellhop: Bellhop, shared_server: Server) -> None:
    """One line on stdout, and 0."""
    outcome = bellhop("check")
    assert (outcome.code, outcome.err) == (0, "")
    assert "embedded Valkey" in outcome.out
    outcome = bellhop("check", REDIS_URL=shared_server.redis_url)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Redis answers" in outcome.out


def test_token_has_the_claims_that_were_asked_for(bellhop: Bellhop) -> None:
    """Staff of several hotels, with ids and roles; issuer and audience as they are checked."""
    arguments = ["--sub", "staff-9", "--hotel", "hotel-a", "--hotel-id", "7", "--hotel", "hotel-b"]
    arguments += ["--role", "manager", "--role", "front_desk", "--ttl", "60"]
    outcome = bellhop("token", *arguments, BELLHOP_JWT_ISSUER="us", BELLHOP_JWT_AUDIENCE="realtime")
    assert (outcome.code, outcome.err) == (0, "")
    claims: dict[str, Any] = jwt.decode(
        outcome.out.strip(), JWT_SECRET, ["HS256"], audience="realtime", issuer="us"
    )
    assert claims["hotels"] == [{"slug": "hotel-a", "id": 7}, "hotel-b"]
    assert (claims["sub"], claims["kind"]) == ("staff-9", "staff")
    assert claims["roles"] == ["manager", "front_desk"]
    assert claims["exp"] - claims["iat"] == 60
    assert abs(claims["iat"] - time.time()) < DEADLINE_S
    assert claims["jti"]

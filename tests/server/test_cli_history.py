"""`bellhop history`: what a channel carried, a line each."""

from __future__ import annotations

import json

import pytest

from tests.harness import Server, new_hotel
from tests.http.test_past import carry
from tests.server.test_commands import finished


async def history(server: Server, *arguments: str) -> tuple[list[dict[str, object]], str]:
    """Run the command; return its lines, decoded, and what it says beside them."""
    outcome = await finished("history", *arguments, "--url", server.url)
    assert outcome.code == 0, outcome.err
    return [json.loads(line) for line in outcome.out.splitlines()], outcome.err


async def test_history_prints_a_line_per_event(server: Server) -> None:
    """Oldest first; `--since` and `--limit` bound it, and nothing else is said."""
    channel = await carry(server, new_hotel(), 3)
    lines, err = await history(server, channel)
    assert ([line["sequence"] for line in lines], err) == ([1, 2, 3], "")
    assert {*lines[0]} == {"event", "data", "event_id", "epoch", "sequence", "time_ms"}
    since = f"{lines[0]['epoch']}:{lines[0]['sequence']}"
    lines, err = await history(server, channel, "--since", since, "--limit", "1")
    assert ([line["sequence"] for line in lines], err) == ([2], "")


async def test_history_says_that_something_is_missing(server: Server) -> None:
    """On stderr, so that the lines remain JSON."""
    channel = await carry(server, new_hotel(), 1)
    lines, err = await history(server, channel, "--since", "0ther:4")
    assert [line["sequence"] for line in lines] == [1]
    assert err == "bellhop: something between is not kept any more\n"


async def test_history_of_a_channel_that_carried_nothing_is_empty(server: Server) -> None:
    """Also of one whose name means something else in a URL."""
    for channel in ("nobody.knows", "#server-to-user-7"):
        assert await history(server, channel) == ([], "")


MISTAKES: dict[str, tuple[tuple[str, ...], int, str]] = {
    "since": (("a.b", "--since", "5"), 1, "since is EPOCH:SEQUENCE"),
    "name": (("a b/c?d", "--limit", "5"), 1, "not a channel name"),
    "limit": (("a.b", "--limit", "0"), 2, "--limit"),
    "no channel": ((), 2, "Missing argument 'CHANNEL'"),
    "nobody there": (("a.b", "--url", "http://127.0.0.1:1"), 1, "is the server running?"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_mistake_is_one_line(server: Server, mistake: str) -> None:
    """The cause, and 2 for wrong use."""
    arguments, code, cause = MISTAKES[mistake]
    where = () if "--url" in arguments else ("--url", server.url)
    outcome = await finished("history", *arguments, *where)
    (line,) = outcome.mistakes
    assert outcome.code == code
    assert cause in line

"""Nothing reaches a socket that the oracle forbids, whatever happens to rights meanwhile."""

from __future__ import annotations

import time

import pytest

from tests.server.world import World


@pytest.mark.parametrize("seed", range(4))
def test_isolation_holds_while_rights_come_and_go(seed: int) -> None:
    """Thousands of (principal, channel, event): what is allowed arrives, and nothing else."""
    world = World(seed)
    world.run(250)
    assert world.pairs > 5_000
    # Both sides are tried: much is seen, and more is not.
    assert world.pairs / 20 < world.seen < world.pairs / 2


@pytest.mark.long
def test_isolation_holds_over_a_million_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    """The same over a million pairs, in worlds of their own."""
    pairs = seen = 0
    started = time.monotonic()
    for seed in range(1_000, 100_000):
        world = World(seed)
        world.run(1_000)
        pairs, seen = pairs + world.pairs, seen + world.seen
        if pairs >= 1_000_000:
            break
    took = time.monotonic() - started
    with capsys.disabled():
        print(f"\nisolation: {pairs:,} pairs, {seen:,} of them to be seen, {pairs / took:,.0f}/s")  # noqa: T201  the report
    assert pairs >= 1_000_000

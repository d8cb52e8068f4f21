"""Nothing is lost, whatever happens to nodes, to Redis and to the clients' links."""

from __future__ import annotations

import os
from pathlib import Path
from random import SystemRandom

import pytest

from tests.chaos.plan import Size
from tests.chaos.report import report
from tests.chaos.run import Outcome, run
from tests.harness import ROOT

SMALL = Size(
    clients=24,
    hosts=1,
    pyshers=1,
    hotels=2,
    plain=2,
    lobbies=2,
    per_s=60,
    seconds=16,
    window_s=10,
    away_s=12,
    cuts_s=(0.1, 2.0),
    cut_every_s=0.5,
    strike_every_s=1.0,
    activity_s=2,
    drain_s=0.5,
    patient=False,
    deliveries=2_000,
)
WHOLE = Size(
    clients=200,
    hosts=3,
    pyshers=3,
    hotels=14,
    plain=12,
    lobbies=8,
    per_s=200,
    seconds=180,
    window_s=90,
    away_s=110,
    cuts_s=(0.1, 15.0),
    cut_every_s=0.5,
    strike_every_s=6.0,
    activity_s=5,
    drain_s=3,
    patient=True,
    deliveries=100_000,
)


def _judge(outcome: Outcome) -> None:
    verdict = outcome.verdict
    assert verdict.lost == []
    assert outcome.faults == []
    assert verdict.gaps_missing == []
    assert outcome.rejected == []
    assert outcome.renumbered == []
    assert outcome.wrong_rosters == []
    # It was a storm, and not a calm.
    assert verdict.due >= outcome.size.deliveries
    assert verdict.gaps_due > 0


@pytest.mark.clients
@pytest.mark.timeout(180)
async def test_nothing_is_lost_in_a_short_storm(tmp_path: Path) -> None:
    """Every client has every event, in order, or was told of a gap; every roster is the truth."""
    _judge(await run(SMALL, tmp_path, SystemRandom().getrandbits(32)))


@pytest.mark.clients
@pytest.mark.long
async def test_nothing_is_lost_in_a_long_storm(tmp_path: Path) -> None:
    """The same with 200 clients and 100,000 deliveries; CHAOS names the report's file."""
    outcome = await run(WHOLE, tmp_path, SystemRandom().getrandbits(32))
    if file := os.environ.get("CHAOS"):
        (ROOT / file).write_text(report(outcome), "utf-8")
    _judge(outcome)

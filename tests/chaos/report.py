"""The report of a chaos run."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.chaos.plan import NODES, PING_S
from tests.chaos.run import Outcome
from tests.clients.compatibility import version_row
from tests.clients.features import Kind

_TEMPLATE: Final = Path(__file__).with_name("chaos.md.in")


def report(outcome: Outcome) -> str:
    """Return it as Markdown."""
    size, verdict = outcome.size, outcome.verdict
    blows = sorted(outcome.blows.items())
    return _TEMPLATE.read_text("utf-8").format(
        day=datetime.now(UTC).date().isoformat(),
        clients=size.clients,
        pusher_js=version_row(Kind.NODE)[2],
        hosts=size.hosts,
        pyshers=size.pyshers,
        pysher=version_row(Kind.PYSHER)[2],
        nodes=NODES,
        channels=outcome.channels,
        hotels=size.hotels,
        plain=size.plain,
        rosters=outcome.rosters,
        per_s=size.per_s,
        seconds=size.seconds,
        window=size.window_s,
        ping=PING_S,
        activity=size.activity_s,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cores=outcome.cores,
        blows="\n".join(f"| {what} | {times} |" for what, times in blows),
        connects=outcome.connects,
        taken="\n".join(
            f"| published by {entrance.value} | {count:,} |"
            for entrance, count in outcome.taken.items()
        ),
        retries=outcome.retries,
        due=verdict.due,
        received=verdict.received,
        copies=verdict.copies,
        lost=len(verdict.lost),
        faults=len(outcome.faults),
        outside=verdict.outside,
        gaps_due=verdict.gaps_due,
        gaps_kept=verdict.gaps_due - len(verdict.gaps_missing),
        told_of=verdict.told_of,
        needless=len(verdict.needless),
        renumbered=len(outcome.renumbered),
        rejected=len(outcome.rejected),
        compared=outcome.compared,
        by_http=outcome.rosters * NODES,
        wrong=len(outcome.wrong_rosters),
        recovery=verdict.recovery_ms / 1000,
        publishing_s=outcome.publishing_s,
        whole_s=outcome.whole_s,
    )

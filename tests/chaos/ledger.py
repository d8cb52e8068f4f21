"""What was published and who heard it: the books that a chaos run is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from tests.chaos.plan import PING_S, Part
from tests.chaos.publishing import Entrance, Event

PROOF_LAG_MS: Final = (2 * PING_S + 5) * 1000
"""How old the server's proof of what a client has may be, when its connection ends: two pings, the
two seconds between writings of proofs, the second between a node's questions what it has heard
itself, the margin of one, and one more."""
_MOST_FAULTS: Final = 50


@dataclass(slots=True)
class Entered:
    """A subscription's confirmation on a new connection."""

    at_ms: int
    heard_ms: int
    """When the client had last heard anything, before."""


@dataclass(slots=True)
class Gap:
    """A gap that a client was told of."""

    at_ms: int
    reason: str
    since_ms: int | None


@dataclass(slots=True)
class Track:
    """What one client heard of one channel."""

    who: str
    channel: str
    part: Part
    events: dict[str, None] = field(default_factory=dict)
    """In the order in which they first came."""
    entered: list[Entered] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    copies: int = 0
    number: int = 0
    epoch: str = ""
    lanes: Counter[Entrance] = field(default_factory=Counter)

    def absences(self) -> Iterator[tuple[int, int]]:
        """Give from when to when (ms) the client may have missed something, at the longest.

        A connection that ended before it could prove anything only made the absence longer.
        """
        since = 0
        for before, after in pairwise(self.entered):
            if not since or after.heard_ms - before.at_ms > PROOF_LAG_MS:
                since = after.heard_ms
            yield since, after.at_ms

    def longest_ms(self) -> int:
        """Return how long it was away, at the longest."""
        return max((until - since for since, until in self.absences()), default=0)


@dataclass
class Verdict:
    """What a run comes to."""

    due: int = 0
    received: int = 0
    copies: int = 0
    lost: list[str] = field(default_factory=list)
    gaps_due: int = 0
    gaps_told: int = 0
    gaps_missing: list[str] = field(default_factory=list)
    needless: list[str] = field(default_factory=list)
    """Gaps that were told to clients which were within the window."""
    told_of: int = 0
    """Events that are not there, and of which a gap tells."""
    outside: int = 0
    """Clients that were away for longer than the window."""
    recovery_ms: int = 0


class Ledger:
    """Takes notes of a run."""

    def __init__(self, window_s: int) -> None:
        self._window_ms = window_s * 1000
        self.events: dict[str, Event] = {}
        self.published: dict[str, list[Event]] = {}
        self.tracks: dict[tuple[str, str], Track] = {}
        self.faults: list[str] = []
        """What is wrong whatever the weather."""
        self._numbers: dict[tuple[str, str], tuple[str, int]] = {}
        self._holders: dict[tuple[str, str, int], str] = {}

    def track(self, who: str, channel: str, part: Part) -> None:
        """Open a client's page for a channel."""
        self.tracks[who, channel] = Track(who, channel, part)

    def born(self, event: Event) -> None:
        """Note an event that is about to be published."""
        self.events[event.event_id] = event
        self.published.setdefault(event.channel, []).append(event)

    def fault(self, text: str) -> None:
        """Note what must not be."""
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(text)

    # --- what clients report ---------------------------------------------------------------------

    def heard(self, who: str, channel: str, event_id: str, epoch: str, number: int) -> None:
        """Note an event that a client got."""
        track, event = self.tracks[who, channel], self.events.get(event_id)
        if event is None or event.channel != channel:
            self.fault(f"{who} got {event_id} on {channel}, where nobody published it")
            return
        if epoch:
            self._numbered(event, epoch, number)
        if event_id in track.events:
            track.copies += 1
            return
        track.events[event_id] = None
        if epoch:
            if epoch == track.epoch and number <= track.number:
                self.fault(f"{who} got number {number} of {channel} after {track.number}")
            track.epoch, track.number = epoch, number
        if event.entrance is not Entrance.PUBLISH:
            if event.number <= track.lanes[event.entrance]:
                self.fault(
                    f"{who} got {event.number} of {event.entrance} on {channel} "
                    f"after {track.lanes[event.entrance]}"
                )
            track.lanes[event.entrance] = event.number

    def _numbered(self, event: Event, epoch: str, number: int) -> None:
        place = (epoch, number)
        if self._numbers.setdefault((event.channel, event.event_id), place) != place:
            self.fault(f"{event.event_id} on {event.channel} has two numbers")
        holder = self._holders.setdefault((event.channel, *place), event.event_id)
        if holder != event.event_id:
            self.fault(f"number {number} of {event.channel} is {holder} and {event.event_id}")

    def entered(self, who: str, channel: str, at_ms: int, heard_ms: int) -> None:
        """Note a confirmation; one on the same connection as before is no return."""
        entered = self.tracks[who, channel].entered
        if not entered or entered[-1].heard_ms != heard_ms:
            entered.append(Entered(at_ms, heard_ms))

    def gap(self, who: str, channel: str, at_ms: int, told: dict[str, Any]) -> None:
        """Note a gap."""
        since = None
        if told["since"] is not None:
            since = round(datetime.fromisoformat(told["since"]).timestamp() * 1000)
        self.tracks[who, channel].gaps.append(Gap(at_ms, told["reason"], since))

    # --- the judgement ---------------------------------------------------------------------------

    def missing(self, track: Track) -> list[Event]:
        """Return what a client ought to have of a channel and has not."""
        return [event for event in self._due(track) if event.event_id not in track.events]

    def _due(self, track: Track) -> list[Event]:
        published = self.published.get(track.channel, [])
        if track.part is not Part.LEAVES:
            return published
        # Whoever goes for good has everything up to the last that it got.
        place = self._numbers.get
        return [
            event
            for event in published
            if 0 < place((track.channel, event.event_id), ("", 0))[1] <= track.number
        ]

    def complete(self) -> bool:
        """Whether whoever is still there has everything that it is told of no gap in."""
        return not any(
            event
            for track in self.tracks.values()
            if track.part is not Part.LEAVES
            for event in self.missing(track)
            if not self._told(track, event)
        )

    def epochs(self) -> list[str]:
        """Return the channels that were numbered anew."""
        epochs: dict[str, set[str]] = {}
        for (channel, _), (epoch, _) in self._numbers.items():
            epochs.setdefault(channel, set()).add(epoch)
        return [channel for channel, seen in epochs.items() if len(seen) > 1]

    def verdict(self) -> Verdict:
        """Judge."""
        verdict = Verdict()
        outside = set()
        for track in self.tracks.values():
            missing = self.missing(track)
            verdict.due += len(self._due(track))
            verdict.received += len(self._due(track)) - len(missing)
            verdict.copies += track.copies
            verdict.gaps_told += len(track.gaps)
            away = track.longest_ms()
            if away > self._window_ms:
                outside.add(track.who)
            self._judge_gaps(track, verdict)
            within = away + PROOF_LAG_MS < self._window_ms
            if within:
                verdict.recovery_ms = max(verdict.recovery_ms, away)
            if within and track.gaps:
                verdict.needless.append(f"{_known(track)}: {track.gaps}, away {away} ms")
            for event in missing:
                if self._told(track, event) and not within:
                    verdict.told_of += 1
                else:
                    verdict.lost.append(f"{_known(track)}: {event}, away {away} ms")
        verdict.outside = len(outside)
        return verdict

    def _told(self, track: Track, event: Event) -> bool:
        """Whether a gap tells that an event may be missing."""
        return any(
            gap.since_ms is None
            or gap.since_ms <= event.taken_ms
            or (event.entrance is Entrance.STREAM and self._published_after(event, gap.since_ms))
            for gap in track.gaps
        )

    def _published_after(self, event: Event, moment_ms: int) -> bool:
        """Whether an entry of the stream, which had to wait for a node, went out after a moment.

        That is so where it has a higher number than something that was not even tried before.
        """
        epoch, number = self._numbers.get((event.channel, event.event_id), ("", 0))
        later = (each for each in self.published[event.channel] if each.tried_ms >= moment_ms)
        places = (self._numbers.get((each.channel, each.event_id), ("", 0)) for each in later)
        return any(place[0] == epoch and 0 < place[1] < number for place in places)

    def _judge_gaps(self, track: Track, verdict: Verdict) -> None:
        """Each return from beyond the window is told a gap, where something was published."""
        for entered in track.entered[1:]:
            since, until = entered.heard_ms, entered.at_ms
            if until - since <= self._window_ms:
                continue
            published = any(
                since < event.tried_ms and event.taken_ms < until - PROOF_LAG_MS
                for event in self.published.get(track.channel, [])
            )
            if published:
                verdict.gaps_due += 1
                if not any(gap.at_ms >= until for gap in track.gaps):
                    verdict.gaps_missing.append(f"{_known(track)}: away {since} to {until}")


def _known(track: Track) -> str:
    return f"{track.who} on {track.channel}"

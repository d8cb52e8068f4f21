"""One person and one event: what the audit says of whether it was sent to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from server.broker.message import BusMessage

_UNSURE_MS: Final = 1_000
"""Clocks of two nodes may differ: what is closer together may have happened in either order."""
_SOON_MS: Final = 60_000
"""How long after the event the end of a connection is worth telling."""
SENT, KEPT_FROM, NOT_KNOWN = "sent", "kept from", "not known"


@dataclass(slots=True)
class Heard:
    """One connection of the person, as it stood when the event was published."""

    socket_id: str
    views: dict[str, Any] | None = None
    """What it heard of the channel then; ``None``: it was not subscribed."""
    unsure: bool = False
    """A change of that came within a second of the event."""
    ended: str = ""
    """How it ended soon after."""
    later_ms: int | None = None
    """When it subscribed after the event."""


class Person:
    """Follows the rows of one person; afterwards it can be asked."""

    def __init__(
        self, sub: str, channel: str, app_id: str, time_ms: int, since: int | None
    ) -> None:
        """Create it; ``time_ms`` is when the event was published, ``since`` the audit's start."""
        self.sub = sub
        self._channel = channel
        self._app_id = app_id
        self._time_ms = time_ms
        self._since = since
        self.sockets: dict[str, Heard] = {}
        self.refusal: str = ""
        """Why the channel was last refused them before the event."""

    def take(self, row: Mapping[str, Any]) -> None:
        """Take the audit's next row."""
        theirs = row.get("sub") == self.sub and row.get("app") == self._app_id
        # A connection whose subscriptions were signed for it may end without its subject.
        if not theirs and row.get("socket_id") not in self.sockets:
            return
        socket_id, after = str(row.get("socket_id", "")), row["time_ms"] > self._time_ms
        if not socket_id or row["kind"] in {"sign", "publish"}:
            return
        if row["kind"] == "disconnect":
            self._ended(socket_id, row, after=after)
            return
        known = self.sockets.setdefault(socket_id, Heard(socket_id))
        if row.get("channel") != self._channel:
            return
        known.unsure = known.unsure or abs(row["time_ms"] - self._time_ms) <= _UNSURE_MS
        if row["kind"] == "refuse":
            self.refusal = self.refusal if after else str(row.get("reason", ""))
        elif after:
            if row["kind"] == "subscribe" and known.later_ms is None:
                known.later_ms = row["time_ms"]
        else:
            known.views = None if row["kind"] == "leave" else row.get("views", {})

    def _ended(self, socket_id: str, row: Mapping[str, Any], *, after: bool) -> None:
        if not after:
            self.sockets.pop(socket_id, None)
            return
        known = self.sockets.get(socket_id)
        later = row["time_ms"] - self._time_ms
        if known is not None and later <= _SOON_MS:
            known.ended = f"its connection ended {later / 1000:.1f} s later: {row.get('reason')}"

    def verdicts(self, hotel: str, exclude: str, kept: BusMessage | None) -> list[dict[str, str]]:
        """Say of each subscribed connection whether the event was sent to it, and why not."""
        told = []
        for heard in self.sockets.values():
            if heard.views is not None:
                outcome, why = _judged(heard, heard.views, hotel, exclude, kept)
                unsure = "a change came within a second of the event" if heard.unsure else ""
                reasons = [text for text in (why, unsure, heard.ended) if text]
                found = {"socket_id": heard.socket_id, "outcome": outcome}
                told.append({**found, "why": "; ".join(reasons)})
        return told

    def absence(self) -> str:
        """Say why there is no subscribed connection."""
        if self._since is None:
            return "not known: there is no audit"
        if self.refusal:
            return f"was not subscribed: it was refused: {self.refusal}"
        if self._since > self._time_ms - _UNSURE_MS:
            return "not known: the audit does not go back that far"
        if self.sockets:
            return "was connected, and not subscribed to the channel"
        return (
            "has no subscription in the audit, which begins at another time than connections do:"
            " a subscription from before that is not known"
        )

    def later(self) -> int | None:
        """Return when they subscribed first after the event."""
        times = [each.later_ms for each in self.sockets.values() if each.later_ms is not None]
        return min(times, default=None)


def _judged(
    heard: Heard, views: Mapping[str, Any], hotel: str, exclude: str, kept: BusMessage | None
) -> tuple[str, str]:
    if exclude and exclude == heard.socket_id:
        return KEPT_FROM, "the backend excluded this connection (socket_id)"
    view = _view(views, hotel)
    if view is None:
        if views.get("incomplete"):
            return NOT_KNOWN, "the audit does not name all hotels of this subscription"
        whose = f"of the hotel {hotel}" if hotel else "of no hotel"
        return KEPT_FROM, f"the event is {whose}, and the subscription hears no such events"
    wanted: Mapping[str, Any] = views.get("filter", {})
    if kept is None:
        if wanted:
            return NOT_KNOWN, f"view {view}; the subscription was filtered by {', '.join(wanted)}"
        return SENT, f"view {view}, if that shows events of this kind"
    said = dict(kept.filter_values)
    missed = [key for key, values in wanted.items() if said.get(key) not in values]
    if missed:
        if views.get("incomplete"):
            return NOT_KNOWN, f"view {view}; the audit does not have the whole filter"
        have = ", ".join(f"{key} is {said.get(key, 'missing')}" for key in missed)
        return KEPT_FROM, f"the subscription was filtered, and the event's {have}"
    if view not in kept.frames:
        return KEPT_FROM, f"the view {view} does not show events of this kind"
    return SENT, f"view {view}"


def _view(views: Mapping[str, Any], hotel: str) -> str | None:
    """Return the view of the event, as `auth.access.Grant.view_for` does."""
    if not hotel:
        return views.get("no_hotel")
    own = views.get("hotels", {}).get(hotel)
    if own is not None or hotel in views.get("not_hotels", ()):
        return own if isinstance(own, str) else None
    return views.get("other_hotels")

"""What listens to a channel's events beside the hub: whole messages, no subscriber, no session.

It stands between the broker and the hub. A tap keeps its channel listened to while the hub has
nobody there, and gets each event as the bus brought it, with its number: frames that a fan-out has
written do not have that.
"""

from __future__ import annotations

from typing import Protocol

from server.broker.interface import Receiver
from server.broker.message import BusMessage, Kind
from server.channels import Key, Watcher


class Tap(Protocol):
    """Who listens to one channel."""

    def listens(self) -> None:
        """Learn that from now on every event of the channel comes in."""

    def took(self, message: BusMessage) -> None:
        """Take one event; must not wait."""

    def lost(self) -> None:
        """Learn that events may be missed until it `listens` again."""


class Hub(Receiver, Protocol):
    """What is listened to beside the taps."""

    def needs(self, key: Key) -> bool:
        """Whether it listens to the channel."""


class Taps:
    """The broker's receiver and the hub's watcher in one: passes on, and brings taps theirs."""

    def __init__(self, watcher: Watcher) -> None:
        """Create it; `bring_to` follows."""
        self._watcher = watcher
        self._hub: Hub | None = None
        self._taps: dict[Key, dict[Tap, None]] = {}

    def bring_to(self, hub: Hub) -> None:
        """Set to whom everything is passed on."""
        self._hub = hub

    def add(self, key: Key, tap: Tap) -> None:
        """Have a tap learn of a channel's events; it `listens` at once, or later."""
        self._taps.setdefault(key, {})[tap] = None
        if self._watcher.watch(*key):
            tap.listens()

    def remove(self, key: Key, tap: Tap) -> None:
        """Have a tap learn of nothing more; nothing where it does not."""
        taps = self._taps.get(key)
        if taps is None or tap not in taps:
            return
        del taps[tap]
        if not taps:
            del self._taps[key]
            if self._hub is None or not self._hub.needs(key):
                self._watcher.unwatch(*key)

    # --- the hub's watcher -----------------------------------------------------------------------

    def watch(self, app_id: str, channel: str) -> bool:
        """Listen to a channel; True where that is in force already."""
        return self._watcher.watch(app_id, channel)

    def unwatch(self, app_id: str, channel: str) -> None:
        """Stop listening to a channel, unless there is a tap."""
        if (app_id, channel) not in self._taps:
            self._watcher.unwatch(app_id, channel)

    # --- the broker's receiver -------------------------------------------------------------------

    def fan_out(self, app_id: str, channel: str, message: BusMessage) -> None:
        """Pass one message on; events to taps, too."""
        if self._taps and message.kind <= Kind.NUMBERED_EVENT:
            for tap in list(self._taps.get((app_id, channel), ())):
                tap.took(message)
        if self._hub is not None:
            self._hub.fan_out(app_id, channel, message)

    def watched(self, app_id: str, channel: str) -> None:
        """Learn that from now on every event of the channel comes in."""
        for tap in list(self._taps.get((app_id, channel), ())):
            tap.listens()
        if self._hub is not None:
            self._hub.watched(app_id, channel)

    def heard(self, until: float) -> None:
        """Learn that all that was published before then (s) has come in."""
        if self._hub is not None:
            self._hub.heard(until)

    def lost(self, since_ms: int) -> None:
        """Learn that since then (ms) nothing has come in, until a channel is `watched` again."""
        for taps in list(self._taps.values()):
            for tap in list(taps):
                tap.lost()
        if self._hub is not None:
            self._hub.lost(since_ms)

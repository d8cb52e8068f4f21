"""Who is on this node, told to the broker: subscribers by channel, presence members.

The node counts its own sockets and tells the broker absolute figures, so that telling again what
could not be told does no harm. Subscribers of ordinary channels that come within one turn of the
event loop are told of together.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from auth.apps import App, AppRegistry, WebhookKind
from channels_spec.pusher import ChannelKind, is_cache_channel, kind_of
from server.broker.membership import Admission, Departure, Entry, Membership
from server.protocol.presence import Entered, Member

_RETRY_S: Final = 0.25
_HAND_OVER_S: Final = 3.0
"""How long a member of a draining node stays in the roster, to be taken over by another."""
_RECOUNT_S: Final = 5.0
"""Seconds between two counts told to the subscribers of a large channel."""

T = TypeVar("T")
Key = tuple[str, str]
"""(app's id, channel)."""


class Notify(Protocol):
    """Where a backend's webhooks begin."""

    def __call__(
        self,
        app_id: str,
        kind: WebhookKind,
        channel: str,
        *,
        at_us: int = 0,
        **fields: str | int | None,
    ) -> None:
        """Tell the backend, sometime, of what happened then by Redis' clock; 0: now."""


class Arrival(Protocol):
    """Who waits to be let in."""

    def entered(self, entered: Entered) -> None:
        """Learn that the broker has let the subscriber in."""

    def refused(self, reason: str) -> None:
        """Learn that it has not."""


@dataclass(slots=True)
class _Waiting:
    """One call of the broker's entrance and who waits for it."""

    key: Key
    arrivals: list[Arrival]
    socket_id: str = ""
    member: Member | None = None


class _Place:
    """What this node has of one channel."""

    __slots__ = ("arrivals", "cached", "counted", "gone", "limit", "members", "sockets")

    def __init__(self, app: App, channel: str) -> None:
        self.sockets: dict[str, str | None] = {}
        """Sockets and their presence users."""
        self.members: dict[str, tuple[Member, set[str]]] = {}
        """Presence users, and their sockets."""
        self.arrivals: list[Arrival] = []
        self.gone: set[str] = set()
        """Users whose going the broker has not confirmed."""
        self.counted = _is_counted(app, channel)
        self.cached = is_cache_channel(channel)
        self.limit = app.limits.presence_members


class Presence:
    """Sockets and members of one node by channel; `run` tells again what could not be told."""

    def __init__(self, membership: Membership, apps: AppRegistry, notify: Notify) -> None:
        self._membership = membership
        self._apps = {app.id: app for app in apps}
        self._notify = notify
        self._places: dict[Key, _Place] = {}
        self._changed: dict[Key, None] = {}
        self._untold: dict[Key, None] = {}
        self._waiting: list[_Waiting] = []
        self._under_way: set[asyncio.Future[Any]] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._leaving: dict[tuple[Key, str], asyncio.TimerHandle] = {}
        self.hands_over = False
        """Whether members that leave are expected on another node."""

    # --- coming and going ------------------------------------------------------------------------

    def enter(self, key: Key, socket_id: str, member: Member | None, arrival: Arrival) -> None:
        """Count a socket on a channel, and have the broker let it in; the arrival learns of it."""
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(self._apps[key[0]], key[1])
        if not place.sockets:
            self._track(self._membership.note("channels", *key))
        place.sockets[socket_id] = member.user_id if member is not None else None
        if member is None:
            place.arrivals.append(arrival)
            self._change(key)
            return
        _, sockets = place.members.setdefault(member.user_id, (member, set()))
        sockets.add(socket_id)
        place.gone.discard(member.user_id)
        self._ask(_Waiting(key, [arrival], socket_id, member))

    def leave(self, key: Key, socket_id: str) -> None:
        """Count a socket no more; nothing where it was not counted."""
        place = self._places.get(key)
        if self.hands_over and place is not None and place.members and socket_id in place.sockets:
            # Its client is on its way to another node: the user stays in the roster meanwhile.
            loop = asyncio.get_running_loop()
            handle = loop.call_later(_HAND_OVER_S, self._leave_now, key, socket_id)
            self._leaving[key, socket_id] = handle
        else:
            self._leave_now(key, socket_id)

    def _leave_now(self, key: Key, socket_id: str) -> None:
        self._leaving.pop((key, socket_id), None)
        place = self._places.get(key)
        if place is None or socket_id not in place.sockets:
            return
        user_id = place.sockets.pop(socket_id)
        if user_id is not None and self._last_of(place, user_id, socket_id):
            place.gone.add(user_id)
            self._depart(key, place, user_id)
        else:
            self._change(key)

    def _last_of(self, place: _Place, user_id: str, socket_id: str) -> bool:
        _, sockets = place.members[user_id]
        sockets.discard(socket_id)
        if sockets:
            return False
        del place.members[user_id]
        return True

    def _change(self, key: Key) -> None:
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._changed[key] = None

    def _flush(self) -> None:
        changed, self._changed = self._changed, {}
        for key in changed:
            self._tell(key)

    def _tell(self, key: Key) -> None:
        """Tell the broker how many sockets there are; let in who waits."""
        place = self._places.get(key)
        if place is None:
            return
        arrivals, place.arrivals = place.arrivals, []
        if arrivals and place.sockets:
            self._ask(_Waiting(key, arrivals))
        else:
            # Whoever asked to be let in and has left again waits for no answer.
            self._depart(key, place, None)

    # --- the broker's answers --------------------------------------------------------------------

    def _ask(self, waiting: _Waiting, *, recount: bool = False) -> None:
        key, place = waiting.key, self._places[waiting.key]
        entry = Entry(
            *key,
            sockets=len(place.sockets),
            member=waiting.member,
            members_allowed=place.limit,
            socket_id=waiting.socket_id,
            counted=place.counted,
            recount=recount,
            cached=place.cached,
        )
        future = self._track(self._membership.enter(entry))
        future.add_done_callback(partial(self._admitted, waiting))

    def _admitted(self, waiting: _Waiting, future: asyncio.Future[Admission | None]) -> None:
        if future.cancelled():
            return
        if future.exception() is not None:
            self._waiting.append(waiting)
            return
        admission = future.result()
        if admission is None:
            self._full(waiting)
            return
        app_id, channel = waiting.key
        notify = partial(self._notify, at_us=admission.at_us)
        if admission.occupied:
            notify(app_id, WebhookKind.CHANNEL_OCCUPIED, channel)
        if admission.member_added and waiting.member is not None:
            notify(app_id, WebhookKind.MEMBER_ADDED, channel, user_id=waiting.member.user_id)
        self._counted(waiting.key, admission.sockets, due=admission.count_is_due)
        for arrival in waiting.arrivals:
            arrival.entered(admission.entered)

    def _full(self, waiting: _Waiting) -> None:
        place = self._places.get(waiting.key)
        if place is not None and waiting.member is not None:
            place.sockets.pop(waiting.socket_id, None)
            if waiting.member.user_id in place.members:
                self._last_of(place, waiting.member.user_id, waiting.socket_id)
            self._change(waiting.key)
        for arrival in waiting.arrivals:
            arrival.refused("the presence channel is full")

    def _depart(self, key: Key, place: _Place, user_id: str | None) -> None:
        left = len(place.sockets)
        future = self._track(self._membership.leave(*key, left, user_id, counted=place.counted))
        future.add_done_callback(partial(self._departed, key, user_id))
        if not left:
            # Everything of this channel goes over one connection, in order.
            self._track(self._membership.forget("channels", *key))

    def _departed(self, key: Key, user_id: str | None, future: asyncio.Future[Departure]) -> None:
        if future.cancelled():
            return
        if future.exception() is not None:
            self._untold[key] = None
            return
        place = self._places.get(key)
        if place is not None:
            if user_id is not None and user_id not in place.members:
                place.gone.discard(user_id)
            # Who left meanwhile is told of by the flush that is due: it needs the place.
            told = not place.arrivals and key not in self._changed
            if told and not place.sockets and not place.gone:
                del self._places[key]
        self.departed(key, user_id, future.result())

    def is_counted(self, key: Key) -> bool:
        """Whether a channel's subscribers are told how many they are."""
        app_id, channel = key
        app = self._apps.get(app_id)
        return app is not None and _is_counted(app, channel)

    def departed(self, key: Key, user_id: str | None, departure: Departure) -> None:
        """Tell the backend what a departure meant; also for what a dead node left behind."""
        app_id, channel = key
        notify = partial(self._notify, at_us=departure.at_us)
        if departure.member_removed:
            notify(app_id, WebhookKind.MEMBER_REMOVED, channel, user_id=user_id)
        if departure.vacated:
            notify(app_id, WebhookKind.CHANNEL_VACATED, channel)
        self._counted(key, departure.sockets, due=departure.count_is_due)

    def _counted(self, key: Key, sockets: int, *, due: bool) -> None:
        # Of a channel that is empty `channel_vacated` tells. This node may have nobody there.
        if not sockets or not self.is_counted(key):
            return
        if not due:
            fields = {"subscription_count": sockets}
            self._notify(key[0], WebhookKind.SUBSCRIPTION_COUNT, key[1], **fields)
        elif key not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(_RECOUNT_S, self._recount, key)

    def _recount(self, key: Key) -> None:
        self._timers.pop(key, None)
        place = self._places.get(key)
        if place is not None and place.sockets:
            self._ask(_Waiting(key, []), recount=True)

    # --- keeping it true -------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell again what could not be told, until cancelled."""
        while True:
            await asyncio.sleep(_RETRY_S)
            if self._membership.ready and (self._waiting or self._untold):
                self._tell_again()

    def tell_all(self) -> None:
        """Tell everything: the broker has lost it, or has taken this node for dead."""
        for key, place in self._places.items():
            if place.sockets:
                self._track(self._membership.note("channels", *key))
            self._untold[key] = None
        self._tell_again()

    async def settled(self) -> None:
        """Await that what was told until now is answered, and members are handed over."""
        while self._changed or self._under_way or self._leaving:
            if self._leaving:
                await asyncio.sleep(_RETRY_S)
            elif self._under_way:
                await asyncio.wait(set(self._under_way))
            else:
                await asyncio.sleep(0)

    def _tell_again(self) -> None:
        waiting, self._waiting = self._waiting, []
        untold, self._untold = self._untold, {}
        for again in waiting:
            place = self._places.get(again.key)
            member = again.member
            if (
                place is None
                or not place.sockets
                or (member is not None and member.user_id not in place.members)
            ):
                # They have left meanwhile.
                continue
            self._track(self._membership.note("channels", *again.key))
            self._ask(again)
        for key in untold:
            place = self._places.get(key)
            if place is None:
                continue
            for user_id in sorted(place.gone):
                self._depart(key, place, user_id)
            for member, sockets in list(place.members.values()):
                self._ask(_Waiting(key, [], next(iter(sockets)), member))
            if place.sockets:
                self._ask(_Waiting(key, []))
            else:
                self._depart(key, place, None)

    def _track(self, future: asyncio.Future[T]) -> asyncio.Future[T]:
        self._under_way.add(future)
        future.add_done_callback(self._answered)
        return future

    def _answered(self, future: asyncio.Future[T]) -> None:
        self._under_way.discard(future)
        if not future.cancelled():
            # Whoever needs the answer has looked at it; a lost note is made again with the rest.
            future.exception()


def _is_counted(app: App, channel: str) -> bool:
    return app.subscription_count and kind_of(channel) is not ChannelKind.PRESENCE

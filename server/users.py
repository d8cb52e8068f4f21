"""Signed-in users: on which nodes, and who watches them come online and go offline."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from server.broker.membership import Membership

_RETRY_S: Final = 0.25

User = tuple[str, str]
"""(app's id, user's id)."""
T = TypeVar("T")


class Watched(Protocol):
    """The part of the hub that tells of users."""

    def watch_user(self, app_id: str, user_id: str, onlooker: Watchlist) -> None:
        """Tell an onlooker of a user from now on."""

    def unwatch_user(self, app_id: str, user_id: str, onlooker: Watchlist) -> None:
        """Stop telling it."""


class Client(Protocol):
    """A session, as its watchlist sees it."""

    def watched_users(self, online: list[str], offline: list[str]) -> None:
        """Learn who is online and who is not: all at first, then whoever changes."""


class Watchlist:
    """The users that one client watches."""

    __slots__ = ("_app_id", "_client", "_known", "_membership", "_told", "users")

    def __init__(
        self, app_id: str, user_ids: tuple[str, ...], client: Client, membership: Membership
    ) -> None:
        self.users = user_ids
        self._app_id = app_id
        self._client = client
        self._membership = membership
        self._known: dict[str, bool] = {}
        """Whether a user is online."""
        self._told = False

    def listens(self, user_id: str) -> None:
        """Ask whether the user is online: from now on its changes are heard."""
        asked = self._membership.is_online(self._app_id, user_id)
        asked.add_done_callback(partial(self._answered, user_id))

    def status_changed(self, user_id: str) -> None:
        """Hear that the user came online or went offline; what is so now is asked."""
        self.listens(user_id)

    def _answered(self, user_id: str, future: asyncio.Future[bool]) -> None:
        if future.cancelled() or future.exception() is not None:
            # Redis is gone; the hub listens anew when it is back.
            return
        online = future.result()
        if self._told and self._known[user_id] is not online:
            self._client.watched_users(*(([user_id], []) if online else ([], [user_id])))
        self._known[user_id] = online
        if not self._told and len(self._known) == len(self.users):
            self._told = True
            self._client.watched_users(
                [user_id for user_id in self.users if self._known[user_id]],
                [user_id for user_id in self.users if not self._known[user_id]],
            )


class Users:
    """Signed-in sockets of one node by user; `run` tells again what could not be told."""

    def __init__(self, membership: Membership, hub: Watched) -> None:
        self._membership = membership
        self._hub = hub
        self._sockets: dict[User, set[str]] = {}
        self._untold: dict[User, None] = {}
        self._under_way: set[asyncio.Future[Any]] = set()

    def signed_in(self, app_id: str, user_id: str, socket_id: str) -> None:
        """Count a socket as a user's."""
        user = (app_id, user_id)
        sockets = self._sockets.setdefault(user, set())
        if socket_id in sockets:
            return
        if not sockets:
            self._track(self._membership.note("users", *user))
        sockets.add(socket_id)
        self._tell(user)

    def left(self, app_id: str, user_id: str, socket_id: str) -> None:
        """Count a socket no more."""
        user = (app_id, user_id)
        sockets = self._sockets.get(user)
        if sockets is None or socket_id not in sockets:
            return
        sockets.discard(socket_id)
        if not sockets:
            del self._sockets[user]
        self._tell(user)

    def watch(
        self, app_id: str, user_ids: tuple[str, ...], client: Client, before: Watchlist | None
    ) -> Watchlist | None:
        """Tell a client of these users and no others; ``before`` is what it watched till now.

        It ends with `unwatch`. Of the same users it is not told anew.
        """
        if before is not None:
            if before.users == user_ids:
                return before
            self.unwatch(app_id, before)
        if not user_ids:
            return None
        watchlist = Watchlist(app_id, user_ids, client, self._membership)
        for user_id in user_ids:
            self._hub.watch_user(app_id, user_id, watchlist)
        return watchlist

    def unwatch(self, app_id: str, watchlist: Watchlist) -> None:
        """Stop telling."""
        for user_id in watchlist.users:
            self._hub.unwatch_user(app_id, user_id, watchlist)

    async def run(self) -> None:
        """Tell again what could not be told, until cancelled."""
        while True:
            await asyncio.sleep(_RETRY_S)
            if self._membership.ready and self._untold:
                self._tell_again()

    def tell_all(self) -> None:
        """Tell everything: the broker has lost it, or has taken this node for dead."""
        self._untold.update(dict.fromkeys(self._sockets))
        self._tell_again()

    async def settled(self) -> None:
        """Await that what was told until now is answered."""
        while self._under_way:
            await asyncio.wait(set(self._under_way))

    def _tell_again(self) -> None:
        untold, self._untold = self._untold, {}
        for user in untold:
            if user in self._sockets:
                self._track(self._membership.note("users", *user))
            self._tell(user)

    def _tell(self, user: User) -> None:
        count = len(self._sockets.get(user, ()))
        told = self._track(self._membership.online(*user, count))
        told.add_done_callback(partial(self._told, user))
        if not count:
            self._track(self._membership.forget("users", *user))

    def _told(self, user: User, future: asyncio.Future[None]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._untold[user] = None

    def _track(self, future: asyncio.Future[T]) -> asyncio.Future[T]:
        self._under_way.add(future)
        future.add_done_callback(self._answered)
        return future

    def _answered(self, future: asyncio.Future[T]) -> None:
        self._under_way.discard(future)
        if not future.cancelled():
            future.exception()

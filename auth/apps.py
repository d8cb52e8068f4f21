"""The apps that this installation serves, what each may do, and how one is found."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from urllib.parse import urlsplit


class WebhookKind(StrEnum):
    """What a backend can be told of; Pusher's own names."""

    CHANNEL_OCCUPIED = "channel_occupied"
    CHANNEL_VACATED = "channel_vacated"
    MEMBER_ADDED = "member_added"
    MEMBER_REMOVED = "member_removed"
    CLIENT_EVENT = "client_event"
    CACHE_MISS = "cache_miss"
    SUBSCRIPTION_COUNT = "subscription_count"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a backend wants to be told, and of what."""

    # It may carry a password or a token.
    url: str = field(repr=False)
    kinds: frozenset[WebhookKind] = frozenset()
    """No kind named: every kind."""
    channels: str = ""
    """A pattern with `*`, `?` and `[…]` for channels' names; empty: every channel."""

    def __post_init__(self) -> None:
        require_webhook_url(self.url)

    def wants(self, kind: WebhookKind, channel: str) -> bool:
        """Say whether this kind on this channel is to be told."""
        return (not self.kinds or kind in self.kinds) and (
            not self.channels or fnmatchcase(channel, self.channels)
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an app may ask for."""

    max_connections: int = 20_000
    """On all nodes together."""
    max_subscriptions: int = 1_000
    """Of one connection."""
    client_events_per_s: int = 10
    """Of one connection."""
    presence_members: int = 100
    presence_bytes: int = 1_024
    """Of one member's user_info, as JSON."""
    watchlist: int = 100
    """Users that one user may watch."""


@dataclass(frozen=True, slots=True)
class App:
    """One Pusher app: its id is in HTTP paths, its key in client URLs, its secret in neither."""

    id: str
    key: str
    secret: str = field(repr=False)
    enabled: bool = True
    origins: tuple[str, ...] | None = None
    """Browser origins; `None`: the installation's."""
    limits: Limits = Limits()
    client_events: bool = True
    """Whether clients may send events to each other."""
    subscription_count: bool = False
    """Whether subscribers are told how many they are."""
    webhooks: tuple[Webhook, ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", "key", "secret"):
            # Everybody can sign with an empty secret.
            if not getattr(self, name):
                raise ValueError(f"an app needs a {name}")
        require_app_id(self.id)


def require_app_id(app_id: str) -> None:
    """Raise ValueError where a character of the id would end it inside the name of a Redis key."""
    if any(character in app_id for character in ":{}"):
        raise ValueError("an app's id has no colon and no braces")


def require_webhook_url(url: str) -> None:
    """Raise ValueError unless it is an absolute http or https URL; the message does not show it."""
    try:
        parts = urlsplit(url)
        good = (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            # urlsplit takes some of these out and says nothing.
            and not any(each.isspace() or not each.isprintable() for each in url)
        )
    except ValueError:
        good = False
    if not good:
        raise ValueError("not of the form http://HOST/PATH or https://HOST/PATH")


class AppRegistry:
    """Every app, found by id or by key; iterates in the order given."""

    __slots__ = ("_by_id", "_by_key")

    def __init__(self, apps: Iterable[App]) -> None:
        """Raise ValueError where two apps share an id or a key."""
        self._by_id: dict[str, App] = {}
        self._by_key: dict[str, App] = {}
        for app in apps:
            if app.id in self._by_id:
                raise ValueError(f"two apps have the id {app.id!r}")
            if app.key in self._by_key:
                raise ValueError(f"two apps have the key {app.key!r}")
            self._by_id[app.id] = app
            self._by_key[app.key] = app

    def by_key(self, key: str) -> App | None:
        """Return the app with this key, enabled or not."""
        return self._by_key.get(key)

    def by_id(self, app_id: str) -> App | None:
        """Return the app with this id, enabled or not."""
        return self._by_id.get(app_id)

    def __iter__(self) -> Iterator[App]:
        return iter(self._by_id.values())

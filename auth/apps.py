"""The apps that this installation serves, and how one is found."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class App:
    """One Pusher app: its id is in HTTP paths, its key in client URLs, its secret in neither."""

    id: str
    key: str
    secret: str = field(repr=False)
    enabled: bool = True

    def __post_init__(self) -> None:
        for name in ("id", "key", "secret"):
            # Everybody can sign with an empty secret.
            if not getattr(self, name):
                raise ValueError(f"an app needs a {name}")


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

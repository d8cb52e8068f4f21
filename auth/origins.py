"""Origins: which web pages' scripts may connect, and when a cookie may speak for its user."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from auth.apps import App

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class OriginPolicy:
    """The installation's allowed origins; without a list, tokens may come from anywhere."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Create a policy from origins such as ``https://desk.example.com``; ``*`` allows all."""
        origins = list(allowed)
        self._listed = bool(origins)
        self._any = "*" in origins
        self._allowed = {_normal(origin) for origin in origins} - {None}

    def allows(self, origin: str | None) -> bool:
        """Whether a page of ``origin`` may connect; no Origin header means no browser."""
        return origin is None or not self._listed or self._any or _normal(origin) in self._allowed

    def trusts_cookie(self, origin: str | None, host: str | None) -> bool:
        """Whether a cookie counts: from a listed origin, or, without a list, from our own host.

        The browser adds cookies to whatever any page asks of it; only the Origin tells which page.
        """
        if origin is None:
            return True
        if self._listed:
            return _normal(origin) in self._allowed
        normal = _normal(origin)
        return host is not None and normal is not None and normal[1:] == _of_host(normal[0], host)

    def cors(self, origin: str | None) -> str | None:
        """Return the value of ``Access-Control-Allow-Origin``, or ``None`` to send none."""
        return origin if origin is not None and self.allows(origin) else None


class Origins:
    """The policy of each app: its own list of origins, or else the installation's."""

    def __init__(self, installation: OriginPolicy, apps: Iterable[App] = ()) -> None:
        self._installation = installation
        self._own = {app.id: OriginPolicy(app.origins) for app in apps if app.origins is not None}

    def of(self, app: App) -> OriginPolicy:
        """Return an app's policy."""
        return self._own.get(app.id, self._installation)


def _normal(origin: str) -> tuple[str, str, int] | None:
    """Return (scheme, host, port), or ``None`` for what is no origin (such as ``null``)."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None:
        return None
    return parts.scheme, parts.hostname, port


def _of_host(scheme: str, host: str) -> tuple[str, int] | None:
    normal = _normal(f"{scheme}://{host}")
    return normal[1:] if normal is not None else None

"""Errors that are not the peer's fault on a connection."""

from __future__ import annotations

from collections.abc import Sequence

from channels_spec.faults import Fault


class ServerError(Exception):
    """Base of the server's own errors."""


class ConfigError(ServerError):
    """The configuration cannot be used; ``problems`` has one line per setting."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class BrokerUnavailable(ServerError):
    """Redis does not answer; the operation may be tried again."""


class BrokerRefused(BrokerUnavailable):
    """Redis answered with an error: it may be this very operation that it cannot do."""


class PublishRefused(ServerError):
    """An event may not be published; ``status`` is what HTTP answers.

    ``retry_after`` is in how many seconds it may be, where that is all that is wrong with it.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        faults: Sequence[Fault] = (),
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.status = status
        self.reason = reason
        self.faults = tuple(faults)
        self.whose: tuple[dict[str, str], ...] = ()
        """Which events it is of, for the audit: channel, event, event_id, as far as known."""

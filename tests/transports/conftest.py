"""Fixtures of tests that need two nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import (
    Server,
    started,
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two nodes on one Valkey; a test may not end what belongs to others' hotels."""
    logs = tmp_path_factory.mktemp("revocation")
    with (
        started(logs / "one.log", {}) as one,
        started(logs / "two.log", {"REDIS_URL": one.redis_url}) as two,
    ):
        yield one, two

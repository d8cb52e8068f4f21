from __future__ import annotations

from typing import Any

import pytest

from server.protocol.errors import SubscriptionRefused
from server.protocol.presence import Member, member

LIMIT = 20


@pytest.mark.parametrize(
    "user_id, info, encoded",
    [
        ("7", None, b"null"),
        ("x" * 128, {"a": 1}, b'{"a":1}'),
        ("é" * 128, "x" * 18, b'"' + b"x" * 18 + b'"'),
    ],
)
def test_member_has_its_info_as_json(user_id: str, info: Any, encoded: bytes) -> None:
    """As short as JSON can be, and up to the bound."""
    assert member("presence-x", user_id, info, LIMIT) == Member(user_id, encoded)


@pytest.mark.parametrize(
    "user_id, info, reason",
    [
        ("", None, "a presence member's user_id has 1 to 128 characters"),
        ("x" * 129, None, "a presence member's user_id has 1 to 128 characters"),
        ("7", "x" * 19, "user_info exceeds 20 bytes"),
        ("7", "é" * 10, "user_info exceeds 20 bytes"),
    ],
)
def test_member_beyond_pushers_bounds_is_refused(user_id: str, info: Any, reason: str) -> None:
    """The client is told which bound it was."""
    with pytest.raises(SubscriptionRefused) as caught:
        member("presence-x", user_id, info, LIMIT)
    assert (caught.value.channel, caught.value.status, caught.value.reason) == (
        "presence-x",
        403,
        reason,
    )

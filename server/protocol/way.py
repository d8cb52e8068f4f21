"""The ways by which a token may come."""

from __future__ import annotations

from enum import IntEnum


class Way(IntEnum):
    """How a token came, by weight."""

    NONE = 0
    COOKIE = 1
    QUERY = 2
    PATH = 3
    HEADER = 4
    RENEWAL = 5
    SIGNIN = 6

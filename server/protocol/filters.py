"""Filters: a subscriber narrows what it hears by ``meta.scope``.

A filter is part of the subscriber's fan-out group: it is evaluated once per distinct filter.
"""

from __future__ import annotations

from typing import Final

from auth.access import Scope
from channels_spec.envelope import FILTER_KEYS, filter_value

MAX_VALUES: Final = 500
"""Values of one key: more rooms than a hotel shows on one screen."""


class BadFilter(ValueError):
    """What came is no filter; the client is told why."""


def parse_scope(scope: object) -> Scope:
    """Parse ``{key: [values]}`` or ``null``; raises `BadFilter`."""
    if scope is None:
        return ()
    if not isinstance(scope, dict):
        raise BadFilter("scope must be an object of lists, or null")
    return tuple(sorted((key, _values(key, values)) for key, values in scope.items()))


def _values(key: str, values: object) -> frozenset[str]:
    if key not in FILTER_KEYS:
        raise BadFilter(f"only {' and '.join(FILTER_KEYS)} can be filtered by")
    if not isinstance(values, list) or len(values) > MAX_VALUES:
        raise BadFilter(f"{key} must be a list of at most {MAX_VALUES} values")
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        raise BadFilter(f"{key} must hold strings or whole numbers")
    return frozenset(filter_value(value) for value in values)

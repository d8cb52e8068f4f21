"""Strict readings of JSON values that somebody else wrote; each raises AuthError with a reason."""

import math
import re
from typing import Final

import orjson

from auth.errors import AuthError

MAX_ID_CHARS: Final = 128
MAX_SIGNED_CHARS: Final = 65_536

# Control characters and line separators forge log lines; a lone surrogate cannot be encoded at all.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def text(value: object, what: str, *, limit: int = MAX_ID_CHARS, empty: bool = False) -> str:
    """Read a string of at most `limit` characters; `what` names it in the reason."""
    if not isinstance(value, str):
        raise AuthError(f"{what} must be a string")
    if not value and not empty:
        raise AuthError(f"{what} must not be empty")
    if len(value) > limit:
        raise AuthError(f"{what} is longer than {limit} characters")
    if _UNSAFE.search(value):
        raise AuthError(f"{what} contains a character that is not allowed")
    return value


def identifier(value: object, what: str) -> str:
    """Read an id: a non-empty string, or a whole number, which becomes its decimal string.

    A float is refused: large numbers round to it, and two ids that round alike would be one person.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        # Before str(), which is slow and at last raises on a number of thousands of digits.
        if value.bit_length() > 4 * MAX_ID_CHARS:
            raise AuthError(f"{what} is longer than {MAX_ID_CHARS} characters")
        return text(str(value), what)
    if not isinstance(value, str):
        raise AuthError(f"{what} must be a string or a whole number")
    return text(value, what)


def number(value: object, what: str) -> float:
    """Read a finite number; `true` is not one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise AuthError(f"{what} must be a number")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise AuthError(f"{what} must be a finite number")
    return result


def items(value: object, what: str, limit: int) -> list[object]:
    """Read a list of at most `limit` items of any type."""
    if not isinstance(value, list):
        raise AuthError(f"{what} must be a list")
    if len(value) > limit:
        raise AuthError(f"{what} has more than {limit} entries")
    return value


def mapping(value: object, what: str) -> dict[str, object]:
    """Read a JSON object."""
    if not isinstance(value, dict):
        raise AuthError(f"{what} must be an object")
    return value


def signed_object(source: str, what: str) -> dict[str, object]:
    """Parse the JSON object that an app's signature covers, at most 65,536 characters of it."""
    if len(source) > MAX_SIGNED_CHARS:
        raise AuthError(f"{what} is longer than {MAX_SIGNED_CHARS} characters")
    try:
        value: object = orjson.loads(source)
    except orjson.JSONDecodeError:
        raise AuthError(f"{what} is not JSON") from None
    return mapping(value, what)

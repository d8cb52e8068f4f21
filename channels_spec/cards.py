"""Card numbers: found and masked, so that they rest in no log and no stream.

A number counts as a card's where it has a brand's prefix and length, passes the Luhn check, and
stands alone between non-alphanumerics; spaces and dashes inside are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

# Groups of digits, one space or dash between them. Before them may stand an escape of JSON, for
# bodies are masked as they came: in "\n4111…" the n is no letter of the text.
_GROUPS: Final = re.compile(
    r"(?:(?<![0-9A-Za-z])|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4}))"
    r"[0-9]+(?:[ -][0-9]+)*(?![0-9A-Za-z])",
    re.ASCII,
)
_DIGITS: Final = re.compile("[0-9]+", re.ASCII)
_DOUBLED: Final = str.maketrans("0123456789", "0246813579")
"""Luhn doubles every second digit and adds the digits of the result."""
_SHORTEST: Final = 13
_LONGEST: Final = 19
_BRANDS: Final = (
    (re.compile(r"4"), {13, 16, 19}),  # Visa
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), {16}),  # Mastercard
    (re.compile(r"3[47]"), {15}),  # American Express
    (re.compile(r"6011|64[4-9]|65"), {16, 19}),  # Discover
    (re.compile(r"30[0-5]|36|3[89]"), {14, 16, 19}),  # Diners Club
    (re.compile(r"352[89]|35[3-8]"), {16, 19}),  # JCB
    (re.compile(r"62"), {16, 17, 18, 19}),  # UnionPay
)


def is_card_number(digits: str) -> bool:
    """Whether a string of ASCII digits is a card number by prefix, length and check digit."""
    if not any(len(digits) in lengths and prefix.match(digits) for prefix, lengths in _BRANDS):
        return False
    summands = digits[-1::-2] + digits[-2::-2].translate(_DOUBLED)
    return (sum(summands.encode("ascii")) - len(summands) * ord("0")) % 10 == 0


def mask(text: str) -> str:
    """Return ``text`` with every card number's digits but the last four masked."""
    return _GROUPS.sub(lambda found: _masked(found.group()), text)


def _masked(run: str) -> str:
    """Mask the card numbers among groups of digits, of which each may begin or end one.

    The longest counts: an expiry date or a quantity beside a number must not hide it.
    """
    if len(run) < _SHORTEST:
        return run
    groups = list(_DIGITS.finditer(run))
    parts: list[str] = []
    done = first = 0
    while first < len(groups):
        last, digits = _card_from(groups, first)
        if digits:
            parts += (run[done : groups[first].start()], "*" * (len(digits) - 4), digits[-4:])
            done = groups[last].end()
            first = last
        first += 1
    return "".join(parts) + run[done:]


def _card_from(groups: Sequence[re.Match[str]], first: int) -> tuple[int, str]:
    """Return the longest card number that begins with a group: its last group and its digits."""
    digits, found = "", (first, "")
    for last in range(first, len(groups)):
        digits += groups[last].group()
        if len(digits) > _LONGEST:
            break
        if len(digits) >= _SHORTEST and is_card_number(digits):
            found = (last, digits)
    return found


# --- in bodies ---------------------------------------------------------------------------------

MASKED: Final = "[masked]"
"""What stands in place of the value of a field that is a card's by its name."""
_FIELDS: Final = frozenset(
    (
        "card_number",
        "cardnumber",
        "card_no",
        "card_pan",
        "card_cvv",
        "card_cvc",
        "pan",
        "cvv",
        "cvv2",
        "cvc",
        "cvc2",
    )
)
_EVENT_ID: Final = ("meta", "event_id")
"""What the backend makes at random: here, and nowhere else of this name."""
_UUID: Final = re.compile("[0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}", re.ASCII)
_TIME_OF_EVENT: Final = ("meta", "ts")
_TIME: Final = re.compile(
    r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}[T ][0-9]{2}:?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]{1,9})?)?"
    r"(?:Z|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII,
)
"""ISO 8601: what may look like a card number where the event's time stands."""
_FIELD_NAME: Final = re.compile(rf'"(?:{"|".join(sorted(_FIELDS))})"')
"""One of them as JSON writes it, in lower case."""
_FIELD_BEGINNING: Final = re.compile('"(?:card[_n]|pan"|cv[vc])')
"""What each of them begins with: found sooner, and mostly not there."""
_DIGITS_AS_9: Final = bytes(ord("9" if chr(i) in "0123456789" else ".") for i in range(256))
_SHORTEST_RUN: Final = b"9" * _SHORTEST


def may_hold_cards(text: str, event_id: str = "") -> bool:
    """Whether the JSON text of a body needs a closer look; few do that hold no card data.

    Of all that an event holds its id looks most like a card number: a UUID is exempt there.
    """
    if _has_long_number(text):
        # Where it stands twice, one stays and is looked at: what matters is found or exempt there.
        at = text.rfind(event_id) if _UUID.fullmatch(event_id) else -1
        without_id = text if at < 0 else text[:at] + text[at + len(event_id) :]
        if _has_long_number(without_id) and mask(without_id) != without_id:
            return True
    text = text.lower()
    return _FIELD_BEGINNING.search(text) is not None and _FIELD_NAME.search(text) is not None


def _has_long_number(text: str) -> bool:
    # Every digit becomes a 9 and spaces and dashes go: a card number is then a run of 9s. Ten times
    # as fast as a regular expression, and every event comes through here.
    return _SHORTEST_RUN in text.encode().translate(_DIGITS_AS_9, b" -")


def without_cards(
    body: object, exempt: frozenset[str] = frozenset()
) -> tuple[object, list[tuple[str | int, ...]]]:
    """Return a body with its card data masked, and the paths where that was; itself where none.

    Args:
        body: decoded JSON.
        exempt: fields whose values are no card numbers, whatever they look like.

    """
    found: list[tuple[str | int, ...]] = []
    return _walk(body, (), exempt, found), found


def _walk(
    value: object,
    path: tuple[str | int, ...],
    exempt: frozenset[str],
    found: list[tuple[str | int, ...]],
) -> object:
    if isinstance(value, dict):
        return {
            _key(key, (*path, key), found): _field(key, item, (*path, key), exempt, found)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_walk(item, (*path, index), exempt, found) for index, item in enumerate(value)]
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        text = str(value)
        masked = mask(text)
        if masked != text:
            found.append(path)
            return masked
    return value


def _key(key: str, path: tuple[str | int, ...], found: list[tuple[str | int, ...]]) -> str:
    """Return a field's name: somebody may list payments by card number."""
    masked = mask(key)
    if masked != key:
        found.append((*path[:-1], masked))
    return masked


def _field(
    key: str,
    value: object,
    path: tuple[str | int, ...],
    exempt: frozenset[str],
    found: list[tuple[str | int, ...]],
) -> object:
    if key in exempt and not isinstance(value, dict | list):
        return value
    if path == _EVENT_ID and isinstance(value, str) and _UUID.fullmatch(value):
        return value
    if path == _TIME_OF_EVENT and isinstance(value, str) and _TIME.fullmatch(value):
        return value
    if key.lower() in _FIELDS and value is not None:
        found.append(path)
        return MASKED
    return _walk(value, path, exempt, found)

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

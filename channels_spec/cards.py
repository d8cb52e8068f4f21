"""Card numbers: found and masked, so that they rest in no log and no stream.

A number counts as a card's where it has a brand's prefix and length, passes the Luhn check, and
stands alone between non-alphanumerics; spaces and dashes inside are allowed.
"""

from __future__ import annotations

import re
from typing import Final

_CANDIDATE: Final = re.compile(
    r"(?<![0-9A-Za-z])[0-9](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z])", re.ASCII
)
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
    """Whether a string of digits is a card number by prefix, length and check digit."""
    if not any(len(digits) in lengths and prefix.match(digits) for prefix, lengths in _BRANDS):
        return False
    total = 0
    for index, digit in enumerate(reversed(digits)):
        # Every second digit is doubled, and its own digits are added.
        total += sum(divmod(int(digit) * (1 + index % 2), 10))
    return total % 10 == 0


def mask(text: str) -> str:
    """Return ``text`` with every card number's digits but the last four masked."""

    def masked(found: re.Match[str]) -> str:
        number = found.group()
        digits = re.sub("[ -]", "", number)
        if not is_card_number(digits):
            return number
        return "*" * (len(digits) - 4) + digits[-4:]

    return _CANDIDATE.sub(masked, text)

from __future__ import annotations

import json
import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channels_spec.cards import is_card_number, mask

# Brand: first and last prefix, and lengths, as the contract lists them.
BRANDS = [
    ("Visa", 4, 4, {13, 16, 19}),
    ("Mastercard", 51, 55, {16}),
    ("Mastercard", 2221, 2720, {16}),
    ("American Express", 34, 34, {15}),
    ("American Express", 37, 37, {15}),
    ("Discover", 6011, 6011, {16, 19}),
    ("Discover", 644, 659, {16, 19}),
    ("Diners Club", 300, 305, {14, 16, 19}),
    ("Diners Club", 36, 36, {14, 16, 19}),
    ("Diners Club", 38, 39, {14, 16, 19}),
    ("JCB", 3528, 3589, {16, 19}),
    ("UnionPay", 62, 62, {16, 17, 18, 19}),
]
WELL_KNOWN = [
    "4111111111111111",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "371449635398431",
    "6011111111111117",
    "30569309025904",
    "38520000023237",
    "3530111333300000",
    "6200000000000005",
]


def luhn_sum(digits: str) -> int:
    """The check sum as the standard puts it: from the right, every second digit doubled."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total


def with_check_digit(digits: str) -> str:
    """Return the digits with the one behind them that makes the check sum right."""
    return next(digits + last for last in string.digits if luhn_sum(digits + last) % 10 == 0)


def branded(digits: str) -> bool:
    """Whether some brand has numbers of this beginning and length."""
    return any(
        first <= int(digits[: len(str(first))] or 0) <= last and len(digits) in lengths
        for _, first, last, lengths in BRANDS
    )


@st.composite
def cards(draw: st.DrawFn) -> str:
    """A number that passes for a card's."""
    _, first, last, lengths = draw(st.sampled_from(BRANDS))
    prefix = str(draw(st.integers(first, last)))
    length = draw(st.sampled_from(sorted(lengths)))
    size = length - len(prefix) - 1
    return with_check_digit(prefix + draw(st.text(string.digits, min_size=size, max_size=size)))


@st.composite
def spelled(draw: st.DrawFn) -> tuple[str, str]:
    """A card number and a way to write it: with single spaces or dashes anywhere inside."""
    number = draw(cards())
    gaps = draw(st.lists(st.sampled_from(["", " ", "-"]), min_size=18, max_size=18))
    written = "".join(digit + gap for digit, gap in zip(number, [*gaps, ""], strict=False))
    return number, written[: len(written) - (written[-1] in " -")]


# Text that a number stands alone beside: it neither ends in a letter or digit nor begins with one.
BESIDE = st.text(string.punctuation.replace("-", "") + "é\u00a0\n\t", min_size=1, max_size=3)


@pytest.mark.parametrize("number", WELL_KNOWN)
def test_card_number_is_known_by_prefix_length_and_check_digit(number: str) -> None:
    """The numbers that payment providers publish for tests are cards; off by one they are not."""
    assert is_card_number(number)
    for wrong in range(1, 10):
        assert not is_card_number(number[:-1] + str((int(number[-1]) + wrong) % 10))


@given(st.text(string.digits, min_size=1, max_size=22))
@example("4")
@example("2220000000000000")
@example("2720990000000007")
@example("2721000000000004")
def test_card_number_agrees_with_the_table_of_brands(digits: str) -> None:
    """Any digits are a card's exactly where a brand's row and the check digit say so."""
    for candidate in (digits, with_check_digit(digits)):
        expected = branded(candidate) and luhn_sum(candidate) % 10 == 0
        assert is_card_number(candidate) is expected


@given(spelled(), BESIDE, BESIDE)
def test_mask_hides_a_card_number_however_it_is_written(
    card: tuple[str, str], before: str, after: str
) -> None:
    """All but the last four digits go, with what stands between them, and nothing around."""
    number, written = card
    hidden = "*" * (len(number) - 4) + number[-4:]
    assert mask(before + written + after) == before + hidden + after
    assert mask(written) == hidden


@given(cards(), st.text(string.digits, min_size=1, max_size=4), st.sampled_from(" -"))
@example("4111111111111111", "12", " ")
def test_mask_hides_a_card_number_beside_other_digits(card: str, more: str, gap: str) -> None:
    """An expiry date behind it or a quantity before it does not make a card number pass."""
    for text in (f"{card}{gap}{more}/27", f"x{more}, {more}{gap}{card}"):
        masked = mask(text)
        assert card not in masked
        assert card not in re.sub("[ -]", "", masked)
        assert "*" * 9 in masked


@given(cards(), cards())
def test_mask_hides_each_of_several_numbers(first: str, second: str) -> None:
    """Two card numbers side by side are both hidden."""
    masked = mask(f"{first} {second}")
    assert first not in masked
    assert second not in masked


@given(
    st.text(string.ascii_letters + " .,:", max_size=5).map(lambda text: text + "\n"),
    cards(),
)
@example("\u00a0", "4111111111111111")
@example("\u00e9", "4111111111111111")
@example("\t", "4111111111111111")
@example("\\", "4111111111111111")
def test_mask_sees_through_the_escapes_of_json(before: str, card: str) -> None:
    """A body is masked as it came: the letter of an escape is no letter of the text."""
    for escaped in (True, False):
        text = json.dumps({"note": before + card + "\n"}, ensure_ascii=escaped)
        assert card not in mask(text)
        assert json.loads(mask(text))["note"].startswith(before)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no digits",
        "4111111111111112",  # the check digit
        "1766677523000",  # a time in milliseconds
        "9999999999999995",  # no brand
        "41111111111111113",  # a length that no brand has
        "a4111111111111111",
        "4111111111111111b",
        "4111  1111 1111 1111",  # two spaces: not one number
        "4111_1111_1111_1111",
        "4111111111111111" * 2,
        "BK-2025-0001 room 12",
        "١" * 16,
    ],
)
def test_mask_leaves_what_is_no_card_number(text: str) -> None:
    """Times, references, rooms and what is part of a longer word stay as they are."""
    assert mask(text) == text


@given(st.text(string.digits + " -a", max_size=40))
def test_mask_changes_nothing_but_card_numbers(text: str) -> None:
    """A text in which no digits side by side make a card number is untouched."""
    groups = re.findall("[0-9]+", text)
    runs = (
        "".join(groups[first:last])
        for first in range(len(groups))
        for last in range(first + 1, len(groups) + 1)
    )
    if not any(map(is_card_number, runs)):
        assert mask(text) == text


def test_mask_hides_an_integer_of_json() -> None:
    """A card number may come as a number; it stands between JSON's own punctuation."""
    assert mask('{"a":4111111111111111,"b":[378282246310005]}') == (
        '{"a":************1111,"b":[***********0005]}'
    )

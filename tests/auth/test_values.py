import pytest

from auth import values
from auth.errors import AuthError

CONTROL = ["\n", "\x00", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800", "\udfff"]


@pytest.mark.parametrize("value", ["a", "Zoë", "a b", "x" * 128, "日本", "😀"])
def test_text_returns_what_may_be_shown(value: str) -> None:
    """Text within its bound passes unchanged, in any script."""
    assert values.text(value, "it") == value


@pytest.mark.parametrize(
    "value, reason",
    [
        (None, "it must be a string"),
        (7, "it must be a string"),
        (b"a", "it must be a string"),
        (["a"], "it must be a string"),
        ("", "it must not be empty"),
        ("x" * 129, "it is longer than 128 characters"),
        *((f"a{char}b", "it contains a character that is not allowed") for char in CONTROL),
    ],
)
def test_text_refuses(value: object, reason: str) -> None:
    """What is no text, too long, or could forge a log line is refused with the reason."""
    with pytest.raises(AuthError) as caught:
        values.text(value, "it")
    assert caught.value.reason == reason


def test_text_may_be_empty_when_asked() -> None:
    """Emptiness and length are the caller's choice."""
    assert values.text("", "it", empty=True) == ""
    assert values.text("x" * 129, "it", limit=129) == "x" * 129


@pytest.mark.parametrize(
    "value, expected",
    [("7", "7"), (7, "7"), (-7, "-7"), (0, "0"), (2**64 + 1, "18446744073709551617")],
)
def test_identifier_returns_text(value: object, expected: str) -> None:
    """A whole number becomes its decimal digits, exactly."""
    assert values.identifier(value, "it") == expected


@pytest.mark.parametrize(
    "value, reason",
    [
        (True, "it must be a string or a whole number"),
        (7.0, "it must be a string or a whole number"),
        (None, "it must be a string or a whole number"),
        ({}, "it must be a string or a whole number"),
        ("", "it must not be empty"),
        (10**128, "it is longer than 128 characters"),
        (10**10_000, "it is longer than 128 characters"),
        (-(10**128), "it is longer than 128 characters"),
    ],
    ids=["bool", "float", "null", "object", "empty", "129-digits", "10000-digits", "negative"],
)
def test_identifier_refuses(value: object, reason: str) -> None:
    """Nothing that could be written in two ways, and nothing unbounded, is an id."""
    with pytest.raises(AuthError) as caught:
        values.identifier(value, "it")
    assert caught.value.reason == reason


@pytest.mark.parametrize("value", [0, 7, -7, 1.5, 1_700_000_000])
def test_number_returns_a_float(value: float) -> None:
    """Whole numbers and fractions are both numbers."""
    result = values.number(value, "it")
    assert (result, type(result)) == (value, float)


@pytest.mark.parametrize(
    "value, reason",
    [
        (True, "it must be a number"),
        ("7", "it must be a number"),
        (None, "it must be a number"),
        ([7], "it must be a number"),
        (float("nan"), "it must be a finite number"),
        (float("inf"), "it must be a finite number"),
        (float("-inf"), "it must be a finite number"),
        (10**400, "it must be a finite number"),
    ],
    ids=["bool", "text", "null", "list", "nan", "inf", "-inf", "400-digits"],
)
def test_number_refuses(value: object, reason: str) -> None:
    """A comparison with what is no finite number would be false both ways."""
    with pytest.raises(AuthError) as caught:
        values.number(value, "it")
    assert caught.value.reason == reason


def test_items_and_mapping_return_the_value() -> None:
    """A list within its bound and an object pass as they are."""
    assert values.items([1, "a"], "it", 2) == [1, "a"]
    assert values.mapping({"a": 1}, "it") == {"a": 1}


@pytest.mark.parametrize(
    "value, reason",
    [
        ("ab", "it must be a list"),
        ({}, "it must be a list"),
        ([1, 2, 3], "it has more than 2 entries"),
    ],
)
def test_items_refuses(value: object, reason: str) -> None:
    """A string is no list, and a long list is refused whole."""
    with pytest.raises(AuthError) as caught:
        values.items(value, "it", 2)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "source, reason",
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ('{"a": NaN}', "it is not JSON"),
        ('{"a": "\\ud800"}', "it is not JSON"),
        ('{"a": "\ud800"}', "it is not JSON"),
        ("[]", "it must be an object"),
        ('"a"', "it must be an object"),
        ("null", "it must be an object"),
        ("[" * 60_000, "it is not JSON"),
        (" " * 65_537, "it is longer than 65536 characters"),
    ],
    ids=range(10),
)
def test_signed_object_refuses(source: str, reason: str) -> None:
    """What is not one bounded JSON object is refused, whatever else it is."""
    with pytest.raises(AuthError) as caught:
        values.signed_object(source, "it")
    assert caught.value.reason == reason


def test_signed_object_returns_the_object() -> None:
    """The object is returned as parsed."""
    assert values.signed_object('{"a": [1, "é"]}', "it") == {"a": [1, "é"]}

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channels_spec.cards import MASKED, mask, may_hold_cards, without_cards

CARD = "4111111111111111"
HIDDEN = "************1111"

UUID = "41111111-1111-1111-8111-111111111111"
KEYS = st.sampled_from(["note", "event_id", "ts", "pan", "CVV", "card_number", "phone", CARD, "x"])
TEXTS = st.one_of(
    st.text(max_size=5),
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                [
                    *(CARD, "4111 1111 1111 1111", "378282246310005", "12/27", "1766226600000"),
                    *(" ", "-", ".", "a", "\n", "\\", '"', "\x0b", "é", "\u00a0", "٤"),
                ]
            ),
            max_size=4,
        ),
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([int(CARD), 4111111111111112, 1766226600000, -int(CARD), 7]),
    TEXTS,
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXTS, inner, max_size=3),
    max_leaves=10,
)
BODIES = st.dictionaries(KEYS | st.just("meta"), JSON, max_size=4)


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Give every string, integer and key of a body, with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, "key"), key
            yield from texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, (*path, index))
    elif isinstance(value, int | str) and not isinstance(value, bool):
        yield path, str(value)


@given(BODIES)
@example({"meta": {"event_id": CARD, "ts": CARD}})
@example({"payload": {"meta": {"event_id": CARD}}})
def test_body_without_cards_holds_none(body: dict[str, Any]) -> None:
    """No string, integer or key of it is one, at any depth; the rest is as it was."""
    clean, _ = without_cards(body)
    for path, text in texts(clean):
        assert mask(text) == text or path in {("meta", "event_id"), ("meta", "ts")}


@given(BODIES)
def test_body_is_the_same_when_it_holds_no_card(body: dict[str, Any]) -> None:
    """Nothing is changed where nothing is found, and what is found is told."""
    clean, paths = without_cards(body)
    assert (clean == body) is not bool(paths)


@given(BODIES)
def test_quick_look_overlooks_nothing(body: dict[str, Any]) -> None:
    """Whatever the search in the text passes over needs no closer look."""
    if not may_hold_cards(orjson.dumps(body).decode()):
        assert without_cards(body) == (body, [])


@pytest.mark.parametrize(
    "body, clean, paths",
    [
        ({"a": CARD}, {"a": HIDDEN}, [("a",)]),
        ({"a": [1, {"b": int(CARD)}]}, {"a": [1, {"b": HIDDEN}]}, [("a", 1, "b")]),
        ({CARD: 1}, {HIDDEN: 1}, [(HIDDEN,)]),
        ({"cvv": 123}, {"cvv": MASKED}, [("cvv",)]),
        ({"Card_Number": {"x": 1}}, {"Card_Number": MASKED}, [("Card_Number",)]),
        ({"cvv": None}, {"cvv": None}, []),
        ({"reference": CARD}, {"reference": CARD}, []),
        ({"reference": [CARD]}, {"reference": [HIDDEN]}, [("reference", 0)]),
        ({"meta": {"event_id": CARD}}, {"meta": {"event_id": mask(CARD)}}, [("meta", "event_id")]),
        ({"meta": {"event_id": UUID}}, {"meta": {"event_id": UUID}}, []),
        ({"payload": {"ts": CARD}}, {"payload": {"ts": HIDDEN}}, [("payload", "ts")]),
        ({"a": True, "b": 1.5, "c": None}, {"a": True, "b": 1.5, "c": None}, []),
    ],
)
def test_card_data_is_masked_where_it_stands(
    body: dict[str, Any], clean: dict[str, Any], paths: list[tuple[Any, ...]]
) -> None:
    """By value or by name, with its path; a field that the contract exempts is left alone."""
    assert without_cards(body, frozenset({"reference"})) == (clean, paths)
    assert may_hold_cards(json.dumps(body)) or not paths


@pytest.mark.parametrize(
    "text",
    [
        '{"ts":"2025-12-20T10:30:00.000Z","ms":1766226600000}',
        '{"id":"550e8400-e29b-41d4-a716-446655440000"}',
        '{"dish":"a pan","pans":2,"xcvv":1}',
        json.dumps(string.printable),
    ],
)
def test_quick_look_passes_over_usual_events(text: str) -> None:
    """Times, ids and words that only look like a card's field need no closer look."""
    assert not may_hold_cards(text)


@pytest.mark.parametrize(
    "ts, passes",
    [
        ("2025-12-20T10:30:00Z", True),
        ("20251220T103000.123456789+0000", True),
        ("2025-12-20 10:30:00.411111111", True),
        ("2025-12-20T10:4111111111111111:00Z", False),
        ("4111111111111111", False),
    ],
)
def test_time_of_an_event_passes_as_a_time_only(ts: str, passes: bool) -> None:  # noqa: FBT001
    """What stands where the time does is exempt while it is one."""
    body, paths = without_cards({"meta": {"ts": ts}})
    assert (not paths) is passes
    assert (body == {"meta": {"ts": ts}}) is passes

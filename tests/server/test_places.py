"""Places: every node calls a message by the same name, and keeps what may be nobody's yet."""

from __future__ import annotations

import uuid

from server.places import Places, new_mark

NAME = b"publish:c"


def hear(places: Places, *bodies: bytes) -> list[str]:
    """Count and keep messages; return their event ids."""
    ids = []
    for body in bodies:
        places.count()
        places.keep(NAME, body)
        ids.append(places.event_id())
    return ids


def left(places: Places) -> list[bytes]:
    """Take everything that is kept."""
    bodies = []
    while (heard := places.take()) is not None:
        bodies.append(heard.body)
    return bodies


def test_nodes_give_a_message_the_same_id_whenever_they_came() -> None:
    """From a mark on; ids are UUIDs, and none comes twice."""
    old, new = Places(), Places()
    first, second = new_mark(), new_mark()
    old.mark(first, "")
    earlier = hear(old, b"1", b"2")
    assert hear(new, b"2") == [""]
    for places in (old, new):
        places.mark(second, "")
    later = hear(old, b"3", b"4")
    assert hear(new, b"3", b"4") == later
    assert len({*earlier, *later}) == 4
    for each in (*earlier, *later):
        assert (uuid.UUID(each).version, str(uuid.UUID(each))) == (4, each)


def test_kept_message_keeps_the_id_of_its_place() -> None:
    """Whatever marks come before it is published."""
    places = Places()
    hear(places, b"0")
    places.mark(new_mark(), "")
    ids = hear(places, b"1", b"2")
    places.mark(new_mark(), "")
    kept = [places.take() for _ in range(3)]
    assert [each and (each.body, each.event_id) for each in kept] == [
        (b"0", ""),
        (b"1", ids[0]),
        (b"2", ids[1]),
    ]
    assert places.take() is None


def test_what_is_settled_is_kept_no_more() -> None:
    """All before the mark that is named, and nothing behind it."""
    places = Places()
    first, second = new_mark(), new_mark()
    hear(places, b"1")
    places.mark(first, "")
    hear(places, b"2")
    places.mark(second, first)
    assert (len(places), places.complete) == (1, True)
    places.mark(new_mark(), first)
    assert left(places) == [b"2"]
    assert places.forgotten == 0


def test_newcomer_is_not_complete_before_a_mark_that_it_knows_is_settled() -> None:
    """What was settled up to a mark from before its time tells it nothing."""
    places = Places()
    first = new_mark()
    places.mark(first, new_mark())
    hear(places, b"1")
    assert not places.complete
    places.mark(new_mark(), first)
    assert places.complete


def test_node_that_was_deaf_gives_no_ids_until_the_next_mark() -> None:
    """Nor is it complete; what it had kept it keeps."""
    places = Places()
    first, second = new_mark(), new_mark()
    places.mark(first, "")
    places.mark(second, first)
    (known,) = hear(places, b"1")
    places.deaf()
    assert hear(places, b"2") == [""]
    assert not places.complete
    places.mark(new_mark(), second)
    assert not places.complete
    heard = places.take()
    assert heard is not None
    assert heard.event_id == known
    assert left(places) == [b"2"]


def test_oldest_go_when_there_are_too_many() -> None:
    """By count and by bytes, and they are counted."""
    places = Places(most=2)
    hear(places, b"1", b"2", b"3")
    assert (places.forgotten, left(places)) == (1, [b"2", b"3"])
    places = Places(most_bytes=2 * len(NAME) + 20)
    hear(places, b"x" * 10, b"y" * 10, b"z" * 5)
    assert (places.forgotten, left(places)) == (1, [b"y" * 10, b"z" * 5])


def test_oldest_go_with_the_oldest_marks() -> None:
    """What is not settled for very long is nobody's to publish any more."""
    places = Places()
    places.mark(new_mark(), "")
    hear(places, b"1")
    for _ in range(200):
        places.mark(new_mark(), "")
    hear(places, b"2")
    assert (places.forgotten, left(places)) == (1, [b"2"])


def test_what_is_no_mark_is_passed_over() -> None:
    """Anybody may publish there."""
    places = Places()
    places.mark(new_mark(), "")
    before = hear(places, b"1")
    for odd in ("", "x", new_mark().upper(), new_mark() + "1", "0" * 24):
        places.mark(odd, "")
    after = hear(places, b"2")
    assert after[0][:24] == before[0][:24]
    assert int(after[0][24:], 16) == int(before[0][24:], 16) + 1

"""The walls' bookkeeping, with a clock that stands still unless it is told to go on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.walls import Buckets, PublishWall, Rate, Verdict, WallLimits, Walls

SUBSCRIBE = b'{"event":"pusher:subscribe","data":{"channel":"a"}}'
PING = b'{"event":"pusher:ping","data":{}}'
TINY = Rate(1, 2)


class Clock:
    """Says what it is told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def walls(clock: Clock | None = None, **limits: Any) -> Walls:
    """Return walls of these limits; all others are off."""
    off = Rate(0, 1)
    given_ = {
        "handshakes": off,
        "failures": off,
        "user_handshakes": off,
        "user_connections": 0,
        "messages": off,
        **limits,
    }
    return Walls(WallLimits(**given_), clock or Clock())


# --- buckets -------------------------------------------------------------------------------------


def test_bucket_holds_its_burst_and_fills_at_its_rate() -> None:
    """Three at once, then one each half second, and what was not used does not add up."""
    buckets = Buckets[str](Rate(2, 3))
    assert [buckets.take("a", 0.0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", 0.0) == pytest.approx(0.5, abs=1e-5)
    assert buckets.wait_s("a", 0.25) == pytest.approx(0.25, abs=1e-5)
    assert buckets.take("a", 0.5) == 0
    assert buckets.take("a", 0.5) > 0
    assert [buckets.take("a", 100.0) for _ in range(4)][:3] == [0, 0, 0]
    assert buckets.take("a", 100.0) > 0


def test_bucket_is_each_keys_own() -> None:
    """One who has used theirs up leaves another's alone."""
    buckets = Buckets[str](Rate(1, 1))
    assert buckets.take("a", 0.0) == 0
    assert buckets.take("a", 0.0) > 0
    assert buckets.take("b", 0.0) == 0


def test_bucket_takes_all_or_nothing() -> None:
    """What is refused costs nothing; more than it holds passes when it is full, and is owed."""
    buckets = Buckets[str](Rate(1, 3))
    assert buckets.take("a", 0.0, 2) == 0
    assert buckets.take("a", 0.0, 2) == pytest.approx(1.0, abs=1e-5)
    assert buckets.take("a", 0.0, 1) == 0
    assert buckets.take("b", 0.0, 10) == 0
    assert buckets.take("b", 0.0) == pytest.approx(8.0, abs=1e-5)


def test_bucket_without_a_rate_is_no_limit() -> None:
    """0 a second is off."""
    buckets = Buckets[str](Rate(0, 1))
    assert [buckets.take("a", 0.0, 1_000) for _ in range(9)] == [0] * 9
    assert (buckets.wait_s("a", 0.0), len(buckets)) == (0, 0)


def test_buckets_are_forgotten_when_full_or_too_many() -> None:
    """However many keys come, no more are kept than were said; the busiest stays."""
    buckets = Buckets[int](Rate(1, 2), remembered=100)
    for key in range(10_000):
        buckets.take(key, 0.0)
        buckets.take(-1, 0.0)
        assert len(buckets) <= 100
    assert buckets.take(-1, 0.0) > 0
    buckets.take(-2, 60.0)
    assert len(buckets) == 1


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 3)), max_size=60),
    st.integers(1, 20),
    st.integers(3, 9),
)
def test_bucket_never_gives_more_than_its_rate(
    asks: list[tuple[float, int]], per_s: int, burst: int
) -> None:
    """Whatever is asked when: in any time no more than the burst and the rate's share of it."""
    buckets, now, given_ = Buckets[str](Rate(per_s, burst)), 0.0, 0
    for pause, count in asks:
        now += pause
        wait = buckets.take("a", now, count)
        assert wait == 0 or buckets.wait_s("a", now + wait + 1e-6, count) == 0
        given_ += 0 if wait else count
        assert given_ <= burst + now * per_s + 1e-3


# --- addresses -----------------------------------------------------------------------------------


def test_devices_behind_one_address_come_back_within_ten_seconds() -> None:
    """A thousand of them pass by default, with a token to come or with an old one; twice over."""
    clock = Clock()
    by_default = Walls(clock=clock)
    for _ in range(1_000):
        clock.now += 0.01
        assert by_default.anonymous("192.0.2.1")
        assert by_default.failed("192.0.2.1")
    at_once = Walls(clock=clock)
    assert all(at_once.anonymous("192.0.2.1") for _ in range(2_000))
    assert all(at_once.failed("192.0.2.1") for _ in range(1_000))
    assert not at_once.anonymous("192.0.2.1")
    assert not at_once.failed("192.0.2.1")
    assert at_once.counts == {"handshakes": 1, "failures": 1}
    assert at_once.anonymous("192.0.2.2")


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:0db8:0000:0001::1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("what:is:this", "what:is:that", False),
    ],
)
def test_addresses_count_by_whom_they_belong_to(one: str, other: str, *, same: bool) -> None:
    """An IPv6 customer has a /64; an IPv4 address is the same inside of IPv6."""
    here = walls(failures=Rate(1, 1))
    assert here.failed(one)
    assert here.failed(other) is not same


def test_no_address_is_not_counted() -> None:
    """The peers of a unix socket are not all one."""
    here = walls(failures=Rate(1, 1), handshakes=Rate(1, 1))
    assert all(here.failed("") and here.anonymous("") for _ in range(9))


# --- users ---------------------------------------------------------------------------------------


def test_user_has_so_many_open_connections() -> None:
    """One too many is told why; one that ends makes room; apps have users of their own."""
    here = walls(user_connections=2)
    first, second, third = (here.visit("1") for _ in range(3))
    assert (first.name("u"), second.name("u")) == (None, None)
    assert third.name("u") == "the user has 2 open connections"
    assert not third.named
    assert (here.visit("2").name("u"), here.visit("1").name("v")) == (None, None)
    third.left()
    assert third.name("u") is not None
    first.left()
    first.left()
    assert third.name("u") is None
    assert here.visit("1").name("u") is not None
    assert here.counts == {"user_connections": 3}


def test_connection_is_named_once() -> None:
    """Signing in where the token has said it already costs nothing."""
    here = walls(user_connections=1, user_handshakes=Rate(1, 1))
    visit = here.visit("1")
    assert [visit.name("u") for _ in range(3)] == [None] * 3


def test_user_connects_so_often() -> None:
    """Ended connections count too: who comes and goes is stopped by their number a second."""
    clock = Clock()
    here = walls(clock, user_handshakes=TINY)
    for _ in range(2):
        visit = here.visit("1")
        assert visit.name("u") is None
        visit.left()
    assert here.visit("1").name("u") == "the user connects more than 1 times a second"
    clock.now += 1
    assert here.visit("1").name("u") is None


# --- messages ------------------------------------------------------------------------------------


def test_messages_are_refused_and_then_end_the_connection() -> None:
    """Over the rate one is refused; as many refusals as the burst in a short time are the end."""
    clock = Clock()
    visit = walls(clock, messages=Rate(10, 5)).visit("1")
    assert [visit.message(PING) for _ in range(5)] == [Verdict.TAKE] * 5
    assert [visit.message(PING) for _ in range(5)] == [Verdict.REFUSE] * 5
    assert visit.message(PING) is Verdict.END
    clock.now += 0.1
    assert visit.message(PING) is Verdict.TAKE


def test_messages_over_the_rate_for_long_end_the_connection() -> None:
    """A tenth too many is forgiven, twice as many is not."""
    for pace, expected in ((11, False), (20, True)):
        clock = Clock()
        visit = walls(clock, messages=Rate(10, 10)).visit("1")
        verdicts = set()
        for _ in range(pace * 60):
            clock.now += 1 / pace
            verdicts.add(visit.message(PING))
        assert (Verdict.END in verdicts) is expected
        assert Verdict.REFUSE in verdicts


def test_page_takes_up_all_its_channels_at_once() -> None:
    """Resume, subscribe and filter for each channel are beside the rate, in any order of keys."""
    visit = walls(messages=Rate(1, 1)).visit("1", subscriptions=100)
    swift = b'{"data":{"channel":"a"},"event":"pusher:subscribe"}'
    resume, narrow = b'{"event":"bellhop:resume"}', b'{"event": "bellhop:filter"}'
    for message in [resume, SUBSCRIBE] * 50 + [swift] * 50 + [resume, narrow] * 75:
        assert visit.message(message) is Verdict.TAKE
    assert visit.message(SUBSCRIBE) is Verdict.TAKE
    assert visit.message(SUBSCRIBE) is Verdict.REFUSE


def test_messages_are_each_connections_own() -> None:
    """One that floods leaves the others of its user alone."""
    here = walls(messages=TINY)
    flood, calm = here.visit("1"), here.visit("1")
    assert [flood.message(PING) for _ in range(9)][-1] is Verdict.END
    assert calm.message(PING) is Verdict.TAKE
    assert walls().visit("1").message(PING) is Verdict.TAKE


# --- publishes -----------------------------------------------------------------------------------


def test_publishes_count_per_hotel_of_an_app() -> None:
    """One noisy hotel leaves the others alone; what has no hotel counts for the app."""
    clock = Clock()
    wall = PublishWall(TINY, clock)
    for whose in (("1", "grand"), ("1", ""), ("2", "grand")):
        assert wall.wait_s(*whose) == 0
        assert [wall.take(*whose) for _ in range(2)] == [0, 0]
        assert wall.take(*whose) == wall.wait_s(*whose) == pytest.approx(1.0, abs=1e-5)
    assert wall.refused == 3
    assert wall.reason("1", "grand") == "the hotel grand publishes more than 1 events a second"
    assert wall.reason("1", "") == "the app 1 publishes more than 1 events a second"
    clock.now += 1
    assert wall.take("1", "grand") == 0


def test_publishes_together_count_all_or_none() -> None:
    """Where one hotel has no room, the other's share is not used up, and it is said whose."""
    wall = PublishWall(Rate(1, 3), Clock())
    assert wall.take_all([]) == (0.0, ("", ""))
    assert wall.take_all([("1", "grand")] * 2 + [("1", "ritz")])[0] == 0
    wait, whose = wall.take_all([("1", "ritz")] * 2 + [("1", "grand")] * 2)
    assert wait == pytest.approx(1.0, abs=1e-5)
    assert whose == ("1", "grand")
    assert wall.take_all([("1", "ritz")] * 2 + [("1", "grand")])[0] == 0
    assert wall.refused == 4

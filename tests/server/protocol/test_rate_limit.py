from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.protocol.rate_limit import TokenBucket


def test_bucket_starts_full_and_fills_with_time() -> None:
    """As many at once as in a second, and never more than that after a long rest."""
    bucket = TokenBucket(2, 100.0)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(100.4), bucket.take(100.5), bucket.take(100.6)] == [False, True, False]
    assert [bucket.take(1_000.0) for _ in range(3)] == [True, True, False]


def test_bucket_bears_a_clock_that_is_set_back() -> None:
    """Nothing is taken away by it, and nothing given."""
    bucket = TokenBucket(1, 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert bucket.take(51.0)


@given(st.integers(1, 20), st.lists(st.floats(0, 2), max_size=60))
def test_bucket_never_gives_more_than_its_rate_and_a_burst(rate: int, waits: list[float]) -> None:
    """However the calls are spread."""
    now = 0.0
    bucket = TokenBucket(rate, now)
    taken = 0
    for wait in waits:
        now += wait
        taken += bucket.take(now)
    assert taken <= rate + now * rate + 1e-6

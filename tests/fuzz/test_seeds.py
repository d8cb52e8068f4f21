"""Seeds of the fuzzer, findings among them, and a handful of changed ones at every run."""

from __future__ import annotations

import time
from itertools import islice
from random import Random

import pytest

from tests.fuzz.corpus import mutants, seeds
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_break_no_promise(target: str) -> None:
    """Whatever the fuzzer has found stays repaired."""
    found = seeds(target)
    assert found
    for data in found.values():
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_changed_seeds_break_no_promise(target: str) -> None:
    """Some hundred inputs near the seeds, the same at every run."""
    for data in islice(mutants(target, Random(1)), 400):
        TARGETS[target](data)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", TARGETS)
def test_changed_seeds_break_no_promise_for_long(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A minute of inputs, others at every run; a failure shows the input."""
    began, count = time.monotonic(), 0
    for data in mutants(target, Random()):
        try:
            TARGETS[target](data)
        except BaseException as error:
            raise AssertionError(f"{target}: {data!r}") from error
        count += 1
        if time.monotonic() - began > 60:
            break
    with capsys.disabled():
        print(f"\nfuzzing {target}: {count:,} inputs")  # noqa: T201  the report

"""`make fuzz`: `python -m tests.fuzz [TARGET]... [--minutes M]`.

With atheris, which measures what an input reaches; without it by plain mutation. What is found is
left in the working directory as `crash-*`: put it among the seeds, where every test run replays it.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from random import Random

import structlog

from tests.fuzz.corpus import SEEDS, mutants

NAMES = ("frames", "envelopes", "channels", "requests", "tokens")


def main() -> None:
    """Fuzz each target in a process of its own, for its share of the time."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", choices=[*NAMES, []], help="default: all")
    parser.add_argument("--minutes", type=float, default=2.0, help="for each target")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    names = asked.targets or NAMES
    if asked.in_process:
        fuzz(names[0], asked.minutes * 60)
        return
    failed = []
    for name in names:
        print(f"fuzzing {name} for {asked.minutes:g} minutes", flush=True)  # noqa: T201  a command
        command = [sys.executable, "-m", "tests.fuzz", name, f"--minutes={asked.minutes}"]
        if subprocess.run([*command, "--in-process"], check=False).returncode:
            failed.append(name)
    sys.exit(f"findings: {', '.join(failed)}" if failed else 0)


def fuzz(name: str, seconds: float) -> None:
    """Fuzz one target; ends the process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if find_spec("atheris") is None:
        mutate(name, seconds)
        return
    import atheris  # noqa: PLC0415  not installed everywhere

    with atheris.instrument_imports(include=["auth", "channels_spec", "server"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415  only now, to be instrumented

    with tempfile.TemporaryDirectory() as corpus:
        options = [f"-max_total_time={round(seconds)}", "-max_len=20000", "-timeout=10"]
        options += ["-print_final_stats=1", "-verbosity=0", "-rss_limit_mb=2048"]
        # New inputs go to the first folder.
        atheris.Setup([sys.argv[0], *options, corpus, str(SEEDS / name)], TARGETS[name])
        atheris.Fuzz()


def mutate(name: str, seconds: float) -> None:
    """Fuzz one target by plain mutation."""
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415  slow to import, and not always needed

    began, count = time.monotonic(), 0
    for data in mutants(name, Random()):
        if time.monotonic() - began > seconds:
            break
        count += 1
        try:
            TARGETS[name](data)
        except BaseException:
            Path(f"crash-{sha256(data).hexdigest()}").write_bytes(data)
            raise
    print(f"{name}: {count:,} inputs")  # noqa: T201  a command


if __name__ == "__main__":
    main()

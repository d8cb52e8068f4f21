"""Notes what the tests tried with which client, and writes docs/compatibility.md from it.

`make compatibility` runs every test of a feature and names the file in `COMPATIBILITY`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.features import Feature, Kind
from tests.clients.topology import Shape
from tests.harness import ROOT

DOCUMENT: Final = ROOT / "docs" / "compatibility.md"
_TEMPLATE: Final = Path(__file__).with_name("compatibility.md.in")
_WORDS: Final = {Shape.ONE_NODE: "one node only", Shape.TWO_NODES: "two nodes only"}

Tried = dict[tuple[Feature, Kind], dict[Shape, bool]]
"""Whether everything passed, by what was tried with whom and where."""
_tried: Tried = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a test's outcome; a fixture that fails counts as its test."""
    report = yield
    marker = item.get_closest_marker("feature")
    if marker is not None and isinstance(item, pytest.Function) and not report.skipped:
        row, kinds = marker.args
        params: dict[str, Any] = dict(item.callspec.params)
        for kind in kinds or (params["kind"],):
            if kind is Kind.JAVA and item.get_closest_marker("long") is None:
                continue
            shapes = _tried.setdefault((row, kind), {})
            shape = params["shape"]
            shapes[shape] = shapes.get(shape, True) and report.passed
    return report


def pytest_sessionfinish() -> None:
    """Write the document, where one is asked for."""
    if file := os.environ.get("COMPATIBILITY"):
        (ROOT / file).write_text(document(_tried), "utf-8")


def document(tried: Tried) -> str:
    """Return the document: what was tried, and what is different."""
    kinds = list(Kind)
    table = [["feature", *(kind.title for kind in kinds)], ["---"] * (len(kinds) + 1)]
    table += [[row, *(_cell(tried.get((row, kind), {})) for kind in kinds)] for row in Feature]
    versions = [["client", "package", "version"], ["---"] * 3]
    versions += [list(version_row(kind)) for kind in kinds]
    template = _TEMPLATE.read_text("utf-8")
    return template.format(
        features=_markdown(table), versions=_markdown(versions), programs=", ".join(_programs())
    )


def version_row(kind: Kind) -> tuple[str, str, str]:
    """Return a client's row of the table of versions."""
    return kind.title, f"`{kind.package}`", kind.version


def _cell(shapes: dict[Shape, bool]) -> str:
    if not all(shapes.values()):
        return "**fails**"
    if len(shapes) == 1:
        return _WORDS[next(iter(shapes))]
    return "yes" if shapes else ""


def _markdown(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _programs() -> Iterable[str]:
    """Return what the clients ran in: programs of the machine, and so not pinned."""
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    for name, command in (
        ("Chromium", (chromium, "--version")),
        ("Node.js", ("node", "--version")),
        ("Java", ("java", "--version")),
    ):
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        number = next(word for word in said.split() if word.lstrip("v")[0].isdigit())
        yield f"{name} {number.lstrip('v')}"

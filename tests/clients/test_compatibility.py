"""docs/compatibility.md is of the versions that are pinned, and of every feature."""

from __future__ import annotations

import pytest

from tests.clients.compatibility import DOCUMENT, document, version_row
from tests.clients.features import Feature, Kind
from tests.clients.topology import Shape


@pytest.mark.parametrize("kind", Kind)
def test_page_names_the_pinned_version(kind: Kind) -> None:
    """Whoever pins another version tries it: `make compatibility`."""
    assert f"| {' | '.join(version_row(kind))} |" in DOCUMENT.read_text("utf-8").splitlines()


def test_page_has_every_feature_and_no_failure() -> None:
    """A row for each feature, with at least one client, and none that fails."""
    text = DOCUMENT.read_text("utf-8")
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines()}
    for row in Feature:
        assert "| yes |" in rows[row] or "only |" in rows[row], row
    assert "fails**" not in text


def test_page_tells_what_was_seen() -> None:
    """What passed everywhere, what in one place, what failed anywhere, what was not tried."""
    both = {Shape.ONE_NODE: True, Shape.TWO_NODES: True}
    page = document(
        {
            (Feature.CONNECT, Kind.NODE): both,
            (Feature.CONNECT, Kind.PAGE): {**both, Shape.ONE_NODE: False},
            (Feature.CONNECT, Kind.JAVA): {Shape.TWO_NODES: True},
        }
    )
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {Feature.CONNECT} |")]
    assert line.split(" | ")[1:7] == ["yes", "**fails**", "", "", "", "two nodes only"]

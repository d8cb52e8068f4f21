"""The types for clients: TypeScript's own compiler takes the right uses and refuses the wrong."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from channels_spec.document import mapping, read_document
from channels_spec.reading import contract_of
from channels_spec.render_typescript import typescript
from tests.channels_spec.test_render import EVERY_KIND

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
TSC = HERE.parents[1] / "node_modules" / ".bin" / "tsc"
OPTIONS = "--noEmit --strict --pretty false --target es2022 --lib es2022,dom --module esnext"
EXPECTED = re.compile(r"// .*: (TS\d+)$")
REFUSED = re.compile(r"\((\d+),\d+\): error (TS\d+): ")


def refused(file: Path) -> list[tuple[int, str]]:
    """Compile a file with all that it imports; return lines and codes of the errors in it."""
    run = subprocess.run(
        [TSC, *OPTIONS.split(), "--moduleResolution", "bundler", file],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = [
        (file.name in line, found.groups())
        for line in run.stdout.splitlines()
        if (found := REFUSED.search(line))
    ]
    assert all(ours for ours, _ in found), run.stdout
    assert (run.returncode == 0) == (not found), run.stdout + run.stderr
    return [(int(line), code) for _, (line, code) in found]


def test_types_let_right_uses_compile() -> None:
    """With pusher-js's own types, under --strict."""
    assert refused(HERE / "typed_events.ts") == []


def test_types_refuse_wrong_uses() -> None:
    """Unknown events, fields and channels, and wrong types: each where it is, and nothing else."""
    file = HERE / "mistyped_events.ts"
    expected = [
        (number, found[1])
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if (found := EXPECTED.search(line))
    ]
    assert refused(file) == expected
    assert len(expected) == 11


def test_types_of_any_contract_compile(tmp_path: Path) -> None:
    """Names that are no identifiers, schemas in each other, whatever the contract holds."""
    contract = tmp_path / "contract.yaml"
    contract.write_text(EVERY_KIND, "utf-8")
    document = read_document(contract)
    module = tmp_path / "events.ts"
    module.write_text(typescript(mapping(document.content, ""), contract_of(document)), "utf-8")
    assert refused(module) == []

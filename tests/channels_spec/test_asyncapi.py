"""The contract is an AsyncAPI 3 document to others too: their parser judges it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import yaml

from channels_spec.document import mapping, read_document
from channels_spec.reading import HOTEL_CONTRACT, load_contract
from channels_spec.render import asyncapi

PARSER = Path(__file__).with_name("asyncapi_parser.cjs")


def faults(*files: Path) -> list[list[str]]:
    """Return what the official parser calls an error in each document."""
    run = subprocess.run(
        ["node", PARSER, *files], check=True, capture_output=True, text=True, timeout=60
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_documents_have_no_fault_for_the_official_parser(tmp_path: Path) -> None:
    """What the server runs on and what `bellhop contract asyncapi` prints; a wrong one has some."""
    printed, wrong = tmp_path / "printed.yaml", tmp_path / "wrong.yaml"
    content = mapping(read_document(HOTEL_CONTRACT).content, "")
    printed.write_text(asyncapi(content), "utf-8")
    wrong.write_text(asyncapi({**content, "channels": 5}), "utf-8")
    ours, theirs, none = faults(HOTEL_CONTRACT, printed, wrong)
    assert (ours, theirs) == ([], [])
    assert any(fault.startswith("channels: ") for fault in none)


def test_asyncapi_prints_the_same_document_without_aliases(tmp_path: Path) -> None:
    """Nothing is lost but anchors: it loads as the same contract."""
    text = asyncapi(mapping(read_document(HOTEL_CONTRACT).content, ""))
    events = list(yaml.parse(text))
    assert not [event for event in events if isinstance(event, yaml.AliasEvent)]
    assert [
        event
        for event in yaml.parse(HOTEL_CONTRACT.read_text("utf-8"))
        if isinstance(event, yaml.AliasEvent)
    ]
    printed = tmp_path / "printed.yaml"
    printed.write_text(text, "utf-8")
    assert read_document(printed).content == read_document(HOTEL_CONTRACT).content
    families = [family.name for family in load_contract(HOTEL_CONTRACT).families]
    assert [family.name for family in load_contract(printed).families] == families

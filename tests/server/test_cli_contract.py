"""`bellhop contract`: the contract checked, or printed in another form."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from channels_spec.reading import HOTEL_CONTRACT
from server.cli import main
from tests.channels_spec.test_loading import SMALL
from tests.harness import environment

ROOT = Path(__file__).resolve().parents[2]
OWN = yaml.safe_dump(SMALL, sort_keys=False)
WRONG = OWN.replace("hotel-staff", "everybody").replace("[a-z]+", "[a-z").replace("3.0.0", "2.0.0")

Outcome = tuple[int, str, str]
Contract = Callable[..., Outcome]


@pytest.fixture
def contract(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Contract:
    """Run `bellhop contract` in an empty folder without any setting; its code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BELLHOP_CONTRACT", raising=False)
    monkeypatch.delenv("BELLHOP_CONFIG", raising=False)

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["bellhop", "contract", *arguments])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return exited.value.code, captured.out, captured.err

    return run


def test_contract_says_that_it_is_good(contract: Contract) -> None:
    """One line on stdout, and 0; no secret is needed for it."""
    code, out, err = contract("validate")
    assert (code, err) == (0, "")
    assert out.startswith("good: ")
    assert len(out.splitlines()) == 1


def test_contract_tells_every_problem_with_its_line(contract: Contract) -> None:
    """A line for each with file, line, place and cause, on stderr, and 2; whatever was asked."""
    Path("own.yaml").write_text(WRONG, "utf-8")
    lines = {
        key: next(i for i, line in enumerate(WRONG.splitlines(), 1) if key in line)
        for key in ("asyncapi:", "x-bellhop-audience:")
    }
    for command in ("validate", "asyncapi", "markdown", "typescript"):
        code, out, err = contract(command, "--contract", "own.yaml")
        assert (code, out) == (2, "")
        assert [line.partition(" expected ")[0] for line in err.splitlines()] == [
            f"bellhop: own.yaml:{lines['asyncapi:']}: asyncapi:",
            (
                f"bellhop: own.yaml:{lines['x-bellhop-audience:']}:"
                " channels.rooms.x-bellhop-audience:"
            ),
        ]


def test_check_tells_every_problem_of_the_contract_with_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As the setting that it is, a line for each."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment({"BELLHOP_CONTRACT": "own.yaml"}).items():
        monkeypatch.setenv(name, value)
    Path("own.yaml").write_text(WRONG, "utf-8")
    monkeypatch.setattr(sys, "argv", ["bellhop", "check"])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 2
    setting = "bellhop: contract.file (BELLHOP_CONTRACT): own.yaml:"
    assert [line.startswith(setting) for line in capsys.readouterr().err.splitlines()] == [True] * 2


@pytest.mark.parametrize(
    "file, cause",
    [("nowhere.yaml", "nowhere.yaml: No such file"), (".", ".: Is a directory")],
)
def test_contract_names_a_file_that_cannot_be_read(
    contract: Contract, file: str, cause: str
) -> None:
    """One line and 2."""
    code, out, err = contract("validate", "--contract", file)
    assert (code, out) == (2, "")
    assert err.startswith(f"bellhop: {cause}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "command, file", [("markdown", "docs/contract.md"), ("typescript", "clients/js/events.ts")]
)
def test_contract_prints_the_committed_file(contract: Contract, command: str, file: str) -> None:
    """What `make contract` writes, byte for byte."""
    printed = (0, (ROOT / file).read_text("utf-8"), "")
    assert contract(command, "--contract", str(HOTEL_CONTRACT)) == printed
    assert contract(command) == printed


def test_contract_prints_asyncapi(contract: Contract) -> None:
    """The whole document as YAML."""
    code, out, err = contract("asyncapi")
    assert (code, err) == (0, "")
    assert yaml.safe_load(out) == yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))


def test_contract_is_the_one_that_the_server_would_use(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of `bellhop.toml`, then the environment's, then the option's."""
    for name in ("toml", "environment", "option"):
        Path(f"{name}.yaml").write_text(OWN.replace("title: Small", f"title: Of {name}"), "utf-8")
    Path("bellhop.toml").write_text("[contract]\nfile = 'toml.yaml'\n", "utf-8")
    assert contract("markdown")[1].startswith("# Of toml\n")
    monkeypatch.setenv("BELLHOP_CONTRACT", "environment.yaml")
    assert contract("markdown")[1].startswith("# Of environment\n")
    assert contract("markdown", "--contract", "option.yaml")[1].startswith("# Of option\n")
    monkeypatch.delenv("BELLHOP_CONTRACT")
    Path("bellhop.toml").write_text("[contract", "utf-8")
    code, _, err = contract("validate")
    assert code == 2
    assert err.startswith("bellhop: bellhop.toml: not valid TOML")


@pytest.mark.parametrize(
    "arguments, cause",
    [(("nonsense",), "No such command"), (("validate", "x"), "unexpected extra")],
)
def test_contract_tells_wrong_use_in_one_line(
    contract: Contract, arguments: tuple[str, ...], cause: str
) -> None:
    """As every command does."""
    code, out, err = contract(*arguments)
    assert (code, out) == (2, "")
    assert cause in err
    assert len(err.splitlines()) == 1

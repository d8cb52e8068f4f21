"""The documents say what the code does."""

import re
from pathlib import Path

from channels_spec.pusher import CLOSE_CODES, ErrorCode
from server.config import ENVIRONMENT, FOREIGN, Settings

DOCS = Path(__file__).resolve().parent.parent / "docs"


def paths(model: type, prefix: str = "") -> list[str]:
    """Return the path of every setting."""
    found: list[str] = []
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]  # pydantic's
        if hasattr(field.annotation, "model_fields"):
            found += paths(field.annotation, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def test_settings_are_all_documented() -> None:
    """Every setting and every variable stands in docs/settings.md."""
    text = (DOCS / "settings.md").read_text("utf-8")
    names = [*paths(Settings), "app.id", "app.key", "app.secret", *ENVIRONMENT]
    names += FOREIGN - {"BELLHOP_WORKER"}
    assert [name for name in names if f"`{name}`" not in text and name != "app"] == []


def test_environment_names_only_settings_that_exist() -> None:
    """Every variable leads to a setting."""
    known = {*paths(Settings), "app.id", "app.key", "app.secret"}
    assert set(ENVIRONMENT.values()) <= known


def test_close_codes_are_all_documented() -> None:
    """The table in docs/protocol.md has every row of the code's, with the same words."""
    text = (DOCS / "protocol.md").read_text("utf-8")
    for code, row in CLOSE_CODES.items():
        assert f"| {int(code)} | {row.meaning} | {row.reconnect} |" in text
    for error in ErrorCode:
        assert f"| {int(error)} |" in text


def test_security_names_only_tests_that_exist() -> None:
    """What docs/security.md claims is shown by a test, and files that it names are there."""
    text = (DOCS / "security.md").read_text("utf-8")
    tests = DOCS.parent / "tests"
    written = "\n".join(file.read_text("utf-8") for file in tests.rglob("test_*.py"))
    known = set(re.findall(r"def (test_\w+)", written))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named
    assert named - known == set()
    files = re.findall(r"`(tests/[\w/]+\.py)`", text)
    assert [name for name in files if not (DOCS.parent / name).exists()] == []

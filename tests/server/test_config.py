from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from auth.principal import DEFAULT_CLAIM_NAMES
from server.config import (
    ENVIRONMENT,
    AppSettings,
    RedisSettings,
    Settings,
    WebhookSettings,
    load_settings,
    named,
    read_settings,
)
from server.errors import ConfigError
from tests.harness import ROOT

# Variable: a value, and what the setting becomes.
VALUES: dict[str, tuple[str, Any]] = {
    "PUSHER_APP_ID": ("7", "7"),
    "PUSHER_KEY": ("key", "key"),
    "PUSHER_SECRET": ("secret", SecretStr("secret")),
    "BELLHOP_APP_ID": ("8", "8"),
    "BELLHOP_APP_KEY": ("key-8", "key-8"),
    "BELLHOP_APP_SECRET": ("secret-8", SecretStr("secret-8")),
    "REDIS_URL": ("redis://r:1/0", "redis://r:1/0"),
    "BELLHOP_REDIS_PREFIX": ("b:", "b:"),
    "BELLHOP_JWT_SECRET": ("s" * 32, SecretStr("s" * 32)),
    "BELLHOP_JWT_PUBLIC_KEY": ("key.pem", "key.pem"),
    "BELLHOP_JWT_JWKS_URL": ("https://id.example/keys", "https://id.example/keys"),
    "BELLHOP_JWT_ISSUER": ("https://id.example", "https://id.example"),
    "BELLHOP_JWT_AUDIENCE": ("desk", "desk"),
    "BELLHOP_JWT_LEEWAY_S": ("1.5", 1.5),
    "BELLHOP_ALLOWED_ORIGINS": (
        "https://a, https://b https://c",
        ("https://a", "https://b", "https://c"),
    ),
    "BELLHOP_CONTRACT": ("mine.yaml", Path("mine.yaml")),
    "BELLHOP_CONTRACT_MODE": ("off", "off"),
    "BELLHOP_UNLISTED_CHANNELS": ("pusher", "pusher"),
    "BELLHOP_REQUIRE_TOKEN": ("false", False),
    "BELLHOP_AUTH_TIMEOUT_S": ("2.5", 2.5),
    "BELLHOP_ACTIVITY_TIMEOUT_S": ("9", 9),
    "BELLHOP_PING_S": ("5", 5.0),
    "BELLHOP_EXPIRY_SPREAD_S": ("0", 0.0),
    "BELLHOP_HISTORY_S": ("60", 60),
    "BELLHOP_HISTORY_EVENTS": ("10", 10),
    "BELLHOP_DEDUPE_S": ("20", 20),
    "BELLHOP_SESSION_S": ("600", 600),
    "BELLHOP_REVOCATION_S": ("3600", 3600),
    "BELLHOP_DRAIN_S": ("3", 3.0),
    "BELLHOP_AUTHORIZER_URL": ("https://b.example/may", "https://b.example/may"),
    "BELLHOP_AUDIT_EVENTS": ("50", 50),
    "BELLHOP_WEBHOOK_URL": ("https://b.example/hook", "https://b.example/hook"),
    "BELLHOP_METRICS_TOKEN": ("m", SecretStr("m")),
}
APP = {"PUSHER_APP_ID": "1", "PUSHER_KEY": "k", "PUSHER_SECRET": "s"}


def load(
    toml: str = "", environment: dict[str, str] | None = None, **command_line: Any
) -> Settings:
    """Load settings from the text of a file, variables, and a command line with __ for dots."""
    given = {path.replace("__", "."): value for path, value in command_line.items()}
    return load_settings(write(toml), environment or {}, given)


def write(toml: str) -> Path | None:
    """Write a file where there is text for one."""
    if not toml:
        return None
    FILE.write_text(toml, encoding="utf-8")
    return FILE


FILE = Path("bellhop.toml")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(*given: Any, **more: Any) -> tuple[str, ...]:
    """Return every problem of a configuration that cannot be used."""
    with pytest.raises(ConfigError) as caught:
        load(*given, **more)
    assert str(caught.value) == "; ".join(caught.value.problems)
    return caught.value.problems


def setting(settings: object, path: str) -> Any:
    """Return the value at a path."""
    for step in path.split("."):
        settings = getattr(settings, step)
    return settings


def paths(model: type[BaseModel] = Settings, before: str = "") -> dict[str, Any]:
    """Return every setting's path and default."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        tables: dict[str, type] = {"app": AppSettings, "webhooks": WebhookSettings}
        section = tables.get(name, type(field.default))
        if issubclass(section, BaseModel):
            found |= paths(section, f"{before}{name}.")
        else:
            found[before + name] = field.default
    return found


# --- where settings come from --------------------------------------------------------------------


def test_settings_have_the_documented_defaults() -> None:
    """Nothing given: no app, an embedded Valkey, loopback, and what the interface page says."""
    settings = load()
    assert (settings.app, settings.all_apps, settings.redis) == (None, (), RedisSettings())
    assert settings.model_dump(exclude={"app", "apps"}) == {
        "redis": {"url": None, "prefix": "bellhop:"},
        "jwt": {
            "secret": None,
            "secrets": (),
            "public_key": None,
            "public_keys": (),
            "jwks_url": None,
            "issuer": None,
            "audience": None,
            "leeway_s": 0,
            "claims": asdict(DEFAULT_CLAIM_NAMES),
        },
        "allowed_origins": (),
        "contract": {"file": None, "mode": "warn", "unlisted_channels": "refuse"},
        "connection": {
            "require_token": True,
            "auth_timeout_s": 10,
            "activity_timeout_s": 30,
            "ping_s": 20,
            "expiry_spread_s": 30,
        },
        "history": {"seconds": 120, "events": 1000, "dedupe_s": 600, "session_s": 86_400},
        "server": {
            "host": "127.0.0.1",
            "port": 6001,
            "uds": None,
            "ssl_certfile": None,
            "ssl_keyfile": None,
            "trusted_proxies": (),
            "drain_s": 30,
            "log_level": "info",
        },
        "walls": {
            "handshakes_per_s": 100,
            "handshakes_burst": 2_000,
            "failures_per_s": 20,
            "failures_burst": 1_000,
            "user_handshakes_per_s": 20,
            "user_handshakes_burst": 200,
            "user_connections": 100,
            "messages_per_s": 50,
            "messages_burst": 200,
            "publishes_per_s": 1000,
            "publishes_burst": 100_000,
            "waiting_handshakes": 20_000,
            "handshakes_turn_ms": 5,
        },
        "authorizer": {"url": None, "deadline_s": 3, "cache_s": 5},
        "audit": {"events": 100_000, "publishes": True},
        "revocation_s": 86_400,
        "webhook_url": None,
        "metrics_token": None,
    }


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_setting_is_read_from_its_variable(variable: str) -> None:
    """Every variable reaches its setting, in the setting's type."""
    text, value = VALUES[variable]
    settings = load(environment={**APP, variable: text})
    assert setting(settings, ENVIRONMENT[variable]) == value


def test_later_sources_win() -> None:
    """The environment over the file, the command line over both; the rest stays as it was."""
    toml = "[server]\nport = 7001\nhost = '::1'\n[redis]\nprefix = 'file:'\nurl = 'redis://file'"
    environment = {"REDIS_URL": "redis://environment", "BELLHOP_REDIS_PREFIX": "environment:"}
    settings = load(toml, environment, server__port=8001, redis__prefix="line:", server__host=None)
    assert (settings.server.port, settings.server.host) == (8001, "::1")
    assert (settings.redis.url, settings.redis.prefix) == ("redis://environment", "line:")


def test_synonyms_of_the_app_win_over_the_backends_variables() -> None:
    """Where two variables name one setting, the later row of the table counts."""
    settings = load(environment={**APP, "BELLHOP_APP_KEY": "ours"})
    assert (settings.default_app.id, settings.default_app.key) == ("1", "ours")


def test_empty_variable_is_no_value() -> None:
    """An exported but empty variable neither sets nor breaks anything."""
    empty = dict.fromkeys(ENVIRONMENT, "")
    assert load(environment=empty) == load()


def test_default_app_is_that_of_the_variables_or_the_first_of_the_file() -> None:
    """More apps come from the file; the default one is always first."""
    toml = "".join(f"[[apps]]\nid = '{i}'\nkey = 'k{i}'\nsecret = 's'\n" for i in (2, 3))
    from_file = load(toml)
    assert from_file.default_app.id == "2"
    assert [app.id for app in from_file.all_apps] == ["2", "3"]
    both = load(toml, APP)
    assert both.default_app.id == "1"
    assert [app.id for app in both.all_apps] == ["1", "2", "3"]


def test_variables_of_others_are_left_alone() -> None:
    """Only what begins with BELLHOP_ is ours to know; the command line's own are known."""
    others = {"PATH": "/bin", "PUSHER_CLUSTER": "eu", "REDIS_HOST": "x", "XBELLHOP_X": "y"}
    own = {"BELLHOP_URL": "http://127.0.0.1:1", "BELLHOP_CONFIG": "x.toml"}
    assert load(environment={**others, **own}) == load()


# --- what is wrong -------------------------------------------------------------------------------


def test_unknown_keys_and_variables_are_named_with_their_path() -> None:
    """A typing error is never a setting that silently stays at its default."""
    toml = "portt = 1\n[server]\nprot = 1\n[[apps]]\nid='1'\nkey='k'\nsecret='s'\nname='x'"
    assert set(problems(toml, {"BELLHOP_HISTROY_S": "1", "BELLHOP_": "x"})) == {
        "portt: there is no such setting",
        "server.prot: there is no such setting",
        "apps.0.name: there is no such setting",
        "BELLHOP_: there is no such setting",
        "BELLHOP_HISTROY_S: there is no such setting",
    }


def test_unknown_variables_alone_are_an_error() -> None:
    """They are told even where everything else is good."""
    assert problems("", {"BELLHOP_X": ""}) == ("BELLHOP_X: there is no such setting",)


def test_all_problems_are_told_in_one_go() -> None:
    """Each with the setting's path and the variable that sets it."""
    environment = {
        "PUSHER_KEY": "k",
        "BELLHOP_PING_S": "soon",
        "BELLHOP_HISTORY_EVENTS": "0",
        "BELLHOP_CONTRACT_MODE": "strict",
    }
    assert set(problems("", environment, server__port=0)) == {
        "app.id (PUSHER_APP_ID): missing",
        "app.secret (PUSHER_SECRET): missing",
        (
            "connection.ping_s (BELLHOP_PING_S): Input should be a valid number,"
            " unable to parse string as a number"
        ),
        "history.events (BELLHOP_HISTORY_EVENTS): Input should be greater than or equal to 1",
        "contract.mode (BELLHOP_CONTRACT_MODE): Input should be 'enforce', 'warn' or 'off'",
        "server.port: Input should be greater than or equal to 1",
    }


@pytest.mark.parametrize(
    "variable, value",
    [
        ("BELLHOP_AUTH_TIMEOUT_S", "-1"),
        ("BELLHOP_AUTH_TIMEOUT_S", "nan"),
        ("BELLHOP_EXPIRY_SPREAD_S", "inf"),
        ("BELLHOP_JWT_LEEWAY_S", "-0.1"),
        ("BELLHOP_ACTIVITY_TIMEOUT_S", "0"),
        ("BELLHOP_ACTIVITY_TIMEOUT_S", "1.5"),
        ("BELLHOP_PING_S", "0.5"),
        ("BELLHOP_HISTORY_S", "0"),
        ("BELLHOP_DEDUPE_S", "0"),
        ("BELLHOP_SESSION_S", "0"),
        ("BELLHOP_REVOCATION_S", "0"),
        ("BELLHOP_REQUIRE_TOKEN", "perhaps"),
        ("BELLHOP_UNLISTED_CHANNELS", "open"),
        ("BELLHOP_DRAIN_S", "-5"),
    ],
)
def test_value_out_of_range_is_refused(variable: str, value: str) -> None:
    """No time is negative or endless, and a word that means nothing is no default."""
    (problem,) = problems("", {variable: value})
    assert problem.startswith(f"{ENVIRONMENT[variable]} ({variable}): Input should be")


@pytest.mark.parametrize("port", [-1, 0, 65_535, 65_536, "http"])
def test_port_leaves_room_for_the_valkey_after_it(port: object) -> None:
    """The embedded Valkey listens on the port after ours."""
    assert problems(server__port=port)[0].startswith("server.port: Input should be")


def test_section_that_is_no_table_is_refused() -> None:
    """A variable cannot go into it, and the file is told so."""
    assert problems("redis = 5", {"REDIS_URL": "redis://x"}) == ("redis: expected a table",)
    assert problems("redis = 5")[0].startswith("redis: Input should be")


def test_file_that_cannot_be_read_is_named() -> None:
    """Missing, not TOML, or not text: the file's name and why."""
    with pytest.raises(ConfigError, match=r"^nowhere\.toml: No such file or directory$"):
        load_settings(Path("nowhere.toml"), {}, {})
    assert problems("port = ")[0].startswith("bellhop.toml: not valid TOML: ")
    FILE.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"^bellhop\.toml: not valid TOML: "):
        load_settings(FILE, {}, {})


def test_secret_is_told_nowhere() -> None:
    """Neither an error nor a printed tree shows one."""
    secrets = {name: "hush-hush" for name in ENVIRONMENT if name.endswith(("SECRET", "TOKEN"))}
    secrets.pop("BELLHOP_REQUIRE_TOKEN")
    assert "hush" not in repr(load(environment={**APP, **secrets}))
    told = problems("[app]\nsecret = ['hush-hush']", {"BELLHOP_METRICS_TOKEN": "hush-hush"})
    assert "hush" not in str(told)


def test_sound_sections_are_read_although_others_are_not() -> None:
    """`bellhop check` goes on with what is good, and knows what was left out."""
    settings, told, left_out = read_settings(
        write("[server]\nport = 0\nhost = '::1'\n[redis]\nprefix = 'p:'"), {"BELLHOP_X": "1"}, {}
    )
    assert told == [
        "server.port: Input should be greater than or equal to 1",
        "BELLHOP_X: there is no such setting",
    ]
    assert left_out == ("server",)
    assert (settings.redis.prefix, settings.server.host) == ("p:", "127.0.0.1")


# --- what it is called ---------------------------------------------------------------------------


def test_setting_is_named_with_its_variable() -> None:
    """Errors name what the user typed, or could have."""
    assert named("app.key") == "app.key (PUSHER_KEY)"
    assert named("server.port") == "server.port"


def test_every_variable_has_a_value_here() -> None:
    """A new row of the table is a new case of these tests."""
    assert set(VALUES) == set(ENVIRONMENT)


def test_every_setting_is_documented_with_its_default() -> None:
    """The page of settings and the tree say the same, setting by setting."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = [row.strip("|").split("|") for row in page.splitlines() if row.startswith("| `")]
    documented: dict[str, str] = {}
    variables: set[str] = set()
    for names, environment, default, _ in rows:
        keys = re.findall("`([^`]+)`", names)
        defaults = [part.strip().strip("`") for part in re.split(r"`, |\(", default)]
        for number, key in enumerate(keys):
            documented[key] = defaults[min(number, len(defaults) - 1)].strip(" `")
        variables |= set(re.findall("`([A-Z_]+)`", environment))
    assert set(documented) == set(paths())
    assert variables == set(ENVIRONMENT)
    for path, default in paths().items():
        if isinstance(default, bool):
            assert documented[path] == str(default).lower()
        elif isinstance(default, int | float | str) and default != "":
            assert documented[path] == f"{default}", path

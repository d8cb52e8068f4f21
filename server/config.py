"""Settings: one typed tree from (later wins) `bellhop.toml`, the environment, the command line.

An unknown key is an error with its path, and every problem of a configuration is told in one go.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from server.errors import ConfigError

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
WholeSeconds = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AppSettings(_Section):
    """One app: the same three values that a backend has for pusher.com."""

    id: str
    key: str
    secret: SecretStr
    enabled: bool = True


class RedisSettings(_Section):
    """The broker; without a URL, an embedded Valkey."""

    url: str | None = None
    prefix: str = "bellhop:"


class JwtSettings(_Section):
    """How tokens are verified."""

    secret: SecretStr | None = None
    public_key: str | None = None
    issuer: str | None = None
    audience: str | None = None
    leeway_s: Seconds = 0


class ContractSettings(_Section):
    """Which events exist, and how strictly that is taken."""

    file: Path | None = None
    mode: Literal["enforce", "warn", "off"] = "warn"
    unlisted_channels: Literal["refuse", "pusher"] = "refuse"


class ConnectionSettings(_Section):
    """What connections must do in time."""

    require_token: bool = True
    auth_timeout_s: Seconds = 10
    activity_timeout_s: WholeSeconds = 30
    ping_s: Annotated[float, Field(ge=1)] = 20
    expiry_spread_s: Seconds = 30


class HistorySettings(_Section):
    """How much of a channel is remembered."""

    seconds: WholeSeconds = 120
    events: Annotated[int, Field(ge=1)] = 1000
    dedupe_s: WholeSeconds = 600


class ServerSettings(_Section):
    """Where the server listens, and how it stops."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_534)] = 6001
    uds: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    drain_s: Seconds = 30
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(_Section):
    """The whole tree."""

    app: AppSettings | None = None
    apps: tuple[AppSettings, ...] = ()
    redis: RedisSettings = RedisSettings()
    jwt: JwtSettings = JwtSettings()
    allowed_origins: tuple[str, ...] = ()
    contract: ContractSettings = ContractSettings()
    connection: ConnectionSettings = ConnectionSettings()
    history: HistorySettings = HistorySettings()
    server: ServerSettings = ServerSettings()
    metrics_token: SecretStr | None = None

    @property
    def default_app(self) -> AppSettings:
        """The app of `PUSHER_APP_ID`, or the first of the file."""
        if self.app is not None:
            return self.app
        return self.apps[0]

    @property
    def all_apps(self) -> tuple[AppSettings, ...]:
        """Every app, the default one first."""
        return ((self.app,) if self.app is not None else ()) + self.apps


ENVIRONMENT: Final = {
    "PUSHER_APP_ID": "app.id",
    "PUSHER_KEY": "app.key",
    "PUSHER_SECRET": "app.secret",
    "BELLHOP_APP_ID": "app.id",
    "BELLHOP_APP_KEY": "app.key",
    "BELLHOP_APP_SECRET": "app.secret",
    "REDIS_URL": "redis.url",
    "BELLHOP_REDIS_PREFIX": "redis.prefix",
    "BELLHOP_JWT_SECRET": "jwt.secret",
    "BELLHOP_JWT_PUBLIC_KEY": "jwt.public_key",
    "BELLHOP_JWT_ISSUER": "jwt.issuer",
    "BELLHOP_JWT_AUDIENCE": "jwt.audience",
    "BELLHOP_JWT_LEEWAY_S": "jwt.leeway_s",
    "BELLHOP_ALLOWED_ORIGINS": "allowed_origins",
    "BELLHOP_CONTRACT": "contract.file",
    "BELLHOP_CONTRACT_MODE": "contract.mode",
    "BELLHOP_UNLISTED_CHANNELS": "contract.unlisted_channels",
    "BELLHOP_REQUIRE_TOKEN": "connection.require_token",
    "BELLHOP_AUTH_TIMEOUT_S": "connection.auth_timeout_s",
    "BELLHOP_ACTIVITY_TIMEOUT_S": "connection.activity_timeout_s",
    "BELLHOP_PING_S": "connection.ping_s",
    "BELLHOP_EXPIRY_SPREAD_S": "connection.expiry_spread_s",
    "BELLHOP_HISTORY_S": "history.seconds",
    "BELLHOP_HISTORY_EVENTS": "history.events",
    "BELLHOP_DEDUPE_S": "history.dedupe_s",
    "BELLHOP_DRAIN_S": "server.drain_s",
    "BELLHOP_METRICS_TOKEN": "metrics_token",
}
"""Environment variable by the path of the setting; where two name one setting, the later wins."""

NOT_YET: Final = (
    "BELLHOP_JWT_JWKS_URL",
    "BELLHOP_SESSION_S",
    "BELLHOP_REVOCATION_S",
    "BELLHOP_WEBHOOK_URL",
    "BELLHOP_AUTHORIZER_URL",
)
"""Settings of Bellhop that this version does not use yet: it says so, and goes on."""

FOREIGN: Final = frozenset({"BELLHOP_URL", "BELLHOP_CONFIG", "BELLHOP_WORKER"})
"""Variables of the command line that are not settings of the server."""


def load_settings(
    file: Path | None, environment: Mapping[str, str], command_line: Mapping[str, object]
) -> Settings:
    """Load the tree, as `read_settings`; raises `ConfigError` with every problem found."""
    settings, problems, _ = read_settings(file, environment, command_line)
    if problems:
        raise ConfigError(*problems)
    return settings


def read_settings(
    file: Path | None, environment: Mapping[str, str], command_line: Mapping[str, object]
) -> tuple[Settings, list[str], tuple[str, ...]]:
    """Read the tree as far as it is good: return it, every problem, and the sections left out.

    Args:
        file: a TOML file, or ``None``.
        environment: as `os.environ`.
        command_line: values by path, such as ``{"server.port": 6001}``; ``None`` is no value.

    Raises:
        ConfigError: the file cannot be read at all.

    """
    tree = _read(file) if file is not None else {}
    for name, path in ENVIRONMENT.items():
        value = environment.get(name)
        if value:
            _put(
                tree, path, value.replace(",", " ").split() if path == "allowed_origins" else value
            )
    for path, given in command_line.items():
        if given is not None:
            _put(tree, path, given)
    unknown = [
        f"{name}: there is no such setting"
        for name in sorted(environment)
        if name.startswith("BELLHOP_") and name not in {*ENVIRONMENT, *FOREIGN, *NOT_YET}
    ]
    try:
        return Settings.model_validate(tree), unknown, ()
    except ValidationError as error:
        wrong = {str(fault["loc"][0]) for fault in error.errors()}
        sound = {name: value for name, value in tree.items() if name not in wrong}
        return Settings.model_validate(sound), [*_problems(error), *unknown], tuple(sorted(wrong))


def named(path: str) -> str:
    """Return a setting's path with its environment variable, as errors name it."""
    variables = [name for name, known in ENVIRONMENT.items() if known == path]
    return f"{path} ({variables[0]})" if variables else path


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None


def _put(tree: dict[str, object], path: str, value: object) -> None:
    *sections, name = path.split(".")
    for section in sections:
        child = tree.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{section}: expected a table")
        tree = child
    tree[name] = value


def _problems(error: ValidationError) -> list[str]:
    problems = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        path = ".".join(str(step) for step in fault["loc"])
        if fault["type"] == "extra_forbidden":
            problems.append(f"{path}: there is no such setting")
        elif fault["type"] == "missing":
            problems.append(f"{named(path)}: missing")
        else:
            problems.append(f"{named(path)}: {fault['msg']}")
    return problems

"""Settings: one typed tree from (later wins) `bellhop.toml`, the environment, the command line.

An unknown key is an error with its path, and every problem of a configuration is told in one go.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from auth.apps import (
    App,
    AppRegistry,
    Limits,
    Webhook,
    WebhookKind,
    require_app_id,
    require_webhook_url,
)
from auth.principal import ClaimNames, claim_path
from server.errors import ConfigError
from server.secret_files import SUFFIX, read_secret_files
from server.wall_settings import AuditSettings, AuthorizerSettings, Proxy, WallSettings


def _app_id(value: str) -> str:
    require_app_id(value)
    return value


def _webhook_url(value: str) -> str:
    require_webhook_url(value)
    return value


def _claim(value: str) -> str:
    claim_path(value)
    return value


def _jwks_url(value: str) -> str:
    """Refuse what would let others on the way put their own keys in."""
    try:
        require_webhook_url(value)
        parts = urlsplit(value)
    except ValueError:
        raise ValueError("not of the form https://HOST/PATH") from None
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ValueError("must be https (http only on localhost, 127.0.0.1 and [::1])")
    if parts.username is not None or parts.fragment:
        raise ValueError("must have no user and no fragment")
    return value


_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
WholeSeconds = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=1)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
Claim = Annotated[str, AfterValidator(_claim)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitSettings(_Section):
    """How much an app may ask for."""

    max_connections: Count = 20_000
    max_subscriptions: Count = 1_000
    client_events_per_s: Count = 10
    presence_members: Count = 100
    presence_bytes: Count = 1_024
    watchlist: Annotated[int, Field(ge=0)] = 100


class WebhookSettings(_Section):
    """Where a backend is told what happens, and of what."""

    url: WebhookUrl
    kinds: frozenset[WebhookKind] = frozenset()
    channels: str = ""


class AppSettings(_Section):
    """One app: the same three values that a backend has for pusher.com, and what it may do."""

    id: Annotated[str, AfterValidator(_app_id)]
    key: str
    secret: SecretStr
    enabled: bool = True
    origins: tuple[str, ...] | None = None
    limits: LimitSettings = LimitSettings()
    client_events: bool = True
    subscription_count: bool = False
    webhooks: tuple[WebhookSettings, ...] = ()

    def app(self, more_webhooks: tuple[Webhook, ...] = ()) -> App:
        """Return the app itself; raises ValueError where a part of it is empty."""
        own = tuple(Webhook(each.url, each.kinds, each.channels) for each in self.webhooks)
        return App(
            id=self.id,
            key=self.key,
            secret=self.secret.get_secret_value(),
            enabled=self.enabled,
            origins=self.origins,
            limits=Limits(**self.limits.model_dump()),
            client_events=self.client_events,
            subscription_count=self.subscription_count,
            webhooks=own + more_webhooks,
        )


class RedisSettings(_Section):
    """The broker; without a URL, an embedded Valkey."""

    url: str | None = None
    prefix: str = "bellhop:"


class ClaimSettings(_Section):
    """Under which name, or path, tokens carry each claim."""

    sub: Claim = "sub"
    exp: Claim = "exp"
    iat: Claim = "iat"
    kind: Claim = "kind"
    hotels: Claim = "hotels"
    roles: Claim = "roles"
    staff_id: Claim = "staff_id"
    conversations: Claim = "conversations"
    booking_id: Claim = "booking_id"
    scope: Claim = "scope"
    jti: Claim = "jti"
    sid: Claim = "sid"
    name: Claim = "name"

    def names(self) -> ClaimNames:
        """Return the names as `auth` takes them."""
        return ClaimNames(**self.model_dump())


class JwtSettings(_Section):
    """How tokens are verified: by any of the keys."""

    secret: SecretStr | None = None
    secrets: tuple[SecretStr, ...] = ()
    public_key: str | None = None
    public_keys: tuple[str, ...] = ()
    jwks_url: Annotated[str, AfterValidator(_jwks_url)] | None = None
    issuer: str | None = None
    audience: str | None = None
    leeway_s: Seconds = 0
    claims: ClaimSettings = ClaimSettings()


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
    session_s: WholeSeconds = 86_400


class ServerSettings(_Section):
    """Where the server listens, and how it stops."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_534)] = 6001
    uds: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    trusted_proxies: tuple[Proxy, ...] = ()
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
    walls: WallSettings = WallSettings()
    authorizer: AuthorizerSettings = AuthorizerSettings()
    audit: AuditSettings = AuditSettings()
    webhook_url: WebhookUrl | None = None
    metrics_token: SecretStr | None = None
    revocation_s: WholeSeconds = 86_400

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

    def registry(self) -> AppRegistry:
        """Return the apps themselves, the default one first; raises ValueError."""
        # The one webhook of the environment is the default app's, beside those of the file.
        more: tuple[Webhook, ...] = () if self.webhook_url is None else (Webhook(self.webhook_url),)
        default, others = self.all_apps[:1], self.all_apps[1:]
        return AppRegistry([*(app.app(more) for app in default), *(app.app() for app in others)])


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
    "BELLHOP_JWT_JWKS_URL": "jwt.jwks_url",
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
    "BELLHOP_SESSION_S": "history.session_s",
    "BELLHOP_DRAIN_S": "server.drain_s",
    "BELLHOP_WEBHOOK_URL": "webhook_url",
    "BELLHOP_AUTHORIZER_URL": "authorizer.url",
    "BELLHOP_AUDIT_EVENTS": "audit.events",
    "BELLHOP_METRICS_TOKEN": "metrics_token",
    "BELLHOP_REVOCATION_S": "revocation_s",
}
"""Environment variable by the path of the setting; where two name one setting, the later wins."""

SECRETS: Final = tuple(
    name
    for name, path in ENVIRONMENT.items()
    if path in {"app.secret", "jwt.secret", "metrics_token"}
)
"""Variables that hold a secret: the same name with `_FILE` after it names a file that does."""

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
    secrets, faults = read_secret_files(environment, SECRETS)
    for name, path in ENVIRONMENT.items():
        value = environment.get(name) or secrets.get(name)
        if value:
            _put(
                tree, path, value.replace(",", " ").split() if path == "allowed_origins" else value
            )
    for path, given in command_line.items():
        if given is not None:
            _put(tree, path, given)
    known = {*ENVIRONMENT, *(name + SUFFIX for name in SECRETS), *FOREIGN}
    unknown = faults + [
        f"{name}: there is no such setting"
        for name in sorted(environment)
        if name.startswith("BELLHOP_") and name not in known
    ]
    try:
        return Settings.model_validate(tree), unknown, ()
    except ValidationError as error:
        wrong = {str(fault["loc"][0]) for fault in error.errors()}
        sound = {name: value for name, value in tree.items() if name not in wrong}
        return Settings.model_validate(sound), [*_problems(error), *unknown], tuple(sorted(wrong))


def app_registry(settings: Settings, problems: list[str]) -> AppRegistry:
    """Return the apps that the settings name; what is wrong with them is added to the problems."""
    if not settings.all_apps:
        problems += [f"{named(path)}: missing" for path in ("app.id", "app.key", "app.secret")]
        return AppRegistry([])
    try:
        return settings.registry()
    except ValueError as error:
        problems.append(f"app: {error}")
        return AppRegistry([])


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
            problems.append(f"{named(path)}: {fault['msg'].removeprefix('Value error, ')}")
    return problems

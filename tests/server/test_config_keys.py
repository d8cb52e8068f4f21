from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import SecretStr

from auth.principal import DEFAULT_CLAIM_NAMES, ClaimNames
from server.config import ENVIRONMENT, SECRETS, ClaimSettings, Settings, load_settings
from server.errors import ConfigError

APP = {"PUSHER_APP_ID": "1", "PUSHER_KEY": "k", "PUSHER_SECRET": "s"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(toml: str = "", environment: dict[str, str] | None = None) -> Settings:
    """Load settings from the text of a file, and variables."""
    file = Path("bellhop.toml")
    file.write_text(toml, encoding="utf-8")
    return load_settings(file, environment or {}, {})


def problems(toml: str = "", environment: dict[str, str] | None = None) -> tuple[str, ...]:
    """Return every problem of a configuration that cannot be used."""
    with pytest.raises(ConfigError) as caught:
        load(toml, environment)
    return caught.value.problems


# --- keys ----------------------------------------------------------------------------------------


def test_several_keys_stand_beside_the_single_ones() -> None:
    """Rotation needs both the old and the new, wherever each comes from."""
    jwt = load(
        "[jwt]\nsecrets = ['s2', 's3']\npublic_keys = ['a.pem', 'b.pem']",
        {"BELLHOP_JWT_SECRET": "s1", "BELLHOP_JWT_PUBLIC_KEY": "c.pem"},
    ).jwt
    assert (jwt.secret, jwt.secrets) == (SecretStr("s1"), (SecretStr("s2"), SecretStr("s3")))
    assert (jwt.public_key, jwt.public_keys) == ("c.pem", ("a.pem", "b.pem"))
    assert "s2" not in repr(jwt)


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example/keys",
        "https://id.example:8443/keys?realm=hotel",
        "HTTPS://id.example",
        "https://10.0.0.7/keys",
        "http://localhost:8080/keys",
        "http://LOCALHOST:8080/keys",
        "http://127.0.0.1/keys",
        "http://[::1]:8080/keys",
    ],
)
def test_jwks_url_is_https_or_on_loopback(url: str) -> None:
    """Nobody on the way can put other keys in."""
    assert load(environment={"BELLHOP_JWT_JWKS_URL": url}).jwt.jwks_url == url


@pytest.mark.parametrize(
    "url, message",
    [
        ("http://id.example/keys", "must be https"),
        ("http://10.0.0.7/keys", "must be https"),
        ("http://localhost.attacker.example/keys", "must be https"),
        ("http://127.0.0.1.attacker.example/keys", "must be https"),
        ("http://127.0.0.1@attacker.example/keys", "must be https"),
        ("https://user:hush-hush@id.example/keys", "must have no user"),
        ("https://id.example/keys#x", "must have no user and no fragment"),
        ("file:///etc/passwd", "not of the form https://HOST/PATH"),
        ("ftp://id.example/keys", "not of the form https://HOST/PATH"),
        ("https://", "not of the form https://HOST/PATH"),
        ("https://[::1/keys", "not of the form https://HOST/PATH"),
        ("https://id.example:99999/keys", "not of the form https://HOST/PATH"),
        ("https://id.example/ke ys", "not of the form https://HOST/PATH"),
        ("keys.json", "not of the form https://HOST/PATH"),
    ],
)
def test_jwks_url_refuses_saying_why(url: str, message: str) -> None:
    """The address is judged when the settings are read, and no part of it is told."""
    (problem,) = problems(environment={"BELLHOP_JWT_JWKS_URL": url})
    assert problem.startswith(f"jwt.jwks_url (BELLHOP_JWT_JWKS_URL): {message}")
    assert "hush" not in problem


# --- names of claims -----------------------------------------------------------------------------


def test_claims_have_their_own_names_unless_told() -> None:
    """The settings and `auth` agree on every claim, and on its name."""
    assert load().jwt.claims.names() == DEFAULT_CLAIM_NAMES
    assert set(ClaimSettings.model_fields) == set(asdict(DEFAULT_CLAIM_NAMES))


def test_claims_are_mapped() -> None:
    """Those that are not named stay as they are."""
    toml = """[jwt.claims]
    sub = "user_id"
    hotels = "https://hotel.example/hotels"
    roles = "realm_access.roles"
    staff_id = 'hotel\\.example.staff'
    """
    assert load(toml).jwt.claims.names() == ClaimNames(
        sub="user_id",
        hotels="https://hotel.example/hotels",
        roles="realm_access.roles",
        staff_id=r"hotel\.example.staff",
    )


def test_claims_refuse_what_is_no_claim_and_no_name() -> None:
    """A mistake on either side is told with its path."""
    empty = "a claim's name, and every part of it between dots, must not be empty"
    assert set(problems("[jwt.claims]\nhotel = 'x'\nsub = ''\nroles = 'a..b'\nname = 7")) == {
        "jwt.claims.hotel: there is no such setting",
        f"jwt.claims.sub: {empty}",
        f"jwt.claims.roles: {empty}",
        "jwt.claims.name: Input should be a valid string",
    }


# --- secrets in files ----------------------------------------------------------------------------


def test_every_secret_variable_may_name_a_file() -> None:
    """The table of secrets holds each variable whose setting is a secret."""
    assert set(SECRETS) == {
        "PUSHER_SECRET",
        "BELLHOP_APP_SECRET",
        "BELLHOP_JWT_SECRET",
        "BELLHOP_METRICS_TOKEN",
    }
    assert {name for name in ENVIRONMENT if name.endswith(("_SECRET", "S_TOKEN"))} == set(SECRETS)


@pytest.mark.parametrize(
    "content, secret",
    [
        (b"hush", "hush"),
        (b"hush\n", "hush"),
        (b"hush\r\n", "hush"),
        (b"hush\n\n", "hush\n"),
        (b" hush ", " hush "),
        ("кл\nюч\n".encode(), "кл\nюч"),
    ],
)
def test_secret_is_read_from_its_file(content: bytes, secret: str) -> None:
    """All of the file but the newline at its end."""
    Path("secret").write_bytes(content)
    names = {f"{name}_FILE": "secret" for name in SECRETS}
    settings = load(environment={"PUSHER_APP_ID": "1", "PUSHER_KEY": "k", **names})
    found = {settings.default_app.secret, settings.jwt.secret, settings.metrics_token}
    assert found == {SecretStr(secret)}


def test_secret_in_a_file_wins_over_the_settings_file() -> None:
    """It comes from the environment, as if it stood there."""
    Path("secret").write_text("new")
    settings = load("[jwt]\nsecret = 'old'", {"BELLHOP_JWT_SECRET_FILE": "secret"})
    assert settings.jwt.secret == SecretStr("new")
    assert load(environment={"BELLHOP_JWT_SECRET_FILE": ""}) == load()


def test_secret_file_refuses_saying_why() -> None:
    """Missing, a folder, no text, empty, or beside the plain variable: each by its name."""
    Path("folder").mkdir()
    Path("binary").write_bytes(b"\xff\xfe")
    Path("empty").write_text("\n")
    Path("good").write_text("hush-hush")
    given = {
        "PUSHER_SECRET_FILE": "missing",
        "BELLHOP_APP_SECRET_FILE": "folder",
        "BELLHOP_JWT_SECRET_FILE": "binary",
        "BELLHOP_METRICS_TOKEN_FILE": "empty",
    }
    assert problems("", given) == (
        "PUSHER_SECRET_FILE: missing: No such file or directory",
        "BELLHOP_APP_SECRET_FILE: folder: Is a directory",
        "BELLHOP_JWT_SECRET_FILE: binary: not text in UTF-8",
        "BELLHOP_METRICS_TOKEN_FILE: empty: is empty",
    )
    both = {**APP, "PUSHER_SECRET_FILE": "good"}
    assert problems("", both) == ("PUSHER_SECRET_FILE: PUSHER_SECRET is set too; set one of them",)


def test_variable_that_holds_no_secret_has_no_file() -> None:
    """Only secrets have a twin."""
    assert problems("", {"BELLHOP_JWT_ISSUER_FILE": "x"}) == (
        "BELLHOP_JWT_ISSUER_FILE: there is no such setting",
    )

"""What settings alone determine: apps, keys, contract, checked before anything runs."""

from __future__ import annotations

import ssl
from pathlib import Path

from auth.revocations import Revocations
from auth.tokens import KeySource, TokenVerifier, VerificationKey, hmac_key, public_key
from channels_spec.contract import Authorizer, Contract
from channels_spec.document import ContractError
from channels_spec.reading import HOTEL_CONTRACT, load_contract
from server.broker.redis import connect
from server.config import Settings, app_registry, named
from server.errors import ConfigError
from server.protocol.rules import Rules


class Parts:
    """What settings alone determine: read, checked, and free of any connection."""

    def __init__(self, settings: Settings) -> None:
        """Read keys, apps and contract; raises `ConfigError` with every problem."""
        problems: list[str] = []
        self.settings = settings
        self.apps = app_registry(settings, problems)
        self.keys = _token_keys(settings, problems)
        self.contract = _contract(settings, problems)
        _check_certificate(settings, problems)
        _check_authorizer(settings, self.contract, problems)
        if settings.redis.url is not None:
            try:
                connect(settings.redis.url)
            except ValueError as error:
                problems.append(f"{named('redis.url')}: {error}")
        if not settings.redis.prefix:
            problems.append(f"{named('redis.prefix')}: must not be empty")
        if problems:
            raise ConfigError(*problems)

    @property
    def serves_unlisted(self) -> bool:
        """Whether channels outside the contract follow plain Pusher rules."""
        return self.settings.contract.unlisted_channels == "pusher"

    def verifier(self, source: KeySource | None = None) -> TokenVerifier:
        """Return the verifier of tokens; a source, where there is one, gives all its keys."""
        jwt = self.settings.jwt
        return TokenVerifier(
            source or self.keys,
            issuer=jwt.issuer,
            audience=jwt.audience,
            leeway_s=jwt.leeway_s,
            names=jwt.claims.names(),
        )

    def rules(self, revocations: Revocations) -> Rules:
        """Return the rules for connections."""
        connection = self.settings.connection
        return Rules(
            contract=self.contract,
            serves_unlisted=self.serves_unlisted,
            require_token=connection.require_token,
            auth_timeout_s=connection.auth_timeout_s,
            activity_timeout_s=connection.activity_timeout_s,
            ping_s=connection.ping_s,
            # A client that knows the timeout has spoken within it, or is gone.
            pong_timeout_s=connection.activity_timeout_s,
            expiry_spread_s=connection.expiry_spread_s,
            revocations=revocations,
        )


def _token_keys(settings: Settings, problems: list[str]) -> list[VerificationKey]:
    jwt = settings.jwt
    keys: list[VerificationKey] = []
    secrets = {f"jwt.secrets.{i}": secret for i, secret in enumerate(jwt.secrets)}
    if jwt.secret is not None:
        secrets = {"jwt.secret": jwt.secret, **secrets}
    for path, secret in secrets.items():
        try:
            keys.append(hmac_key(secret.get_secret_value()))
        except ValueError as error:
            problems.append(f"{named(path)}: {error}")
    pems = {f"jwt.public_keys.{i}": pem for i, pem in enumerate(jwt.public_keys)}
    if jwt.public_key is not None:
        pems = {"jwt.public_key": jwt.public_key, **pems}
    for path, pem in pems.items():
        try:
            keys.append(public_key(_pem(pem)))
        except (ValueError, OSError) as error:
            problems.append(f"{named(path)}: {error}")
    if not (secrets or pems or jwt.jwks_url) and settings.connection.require_token:
        either = ", ".join(map(named, ("jwt.secret", "jwt.public_key")))
        either += f" or {named('jwt.jwks_url')}"
        problems.append(f"{either}: missing; tokens cannot be verified")
    return keys


def _check_certificate(settings: Settings, problems: list[str]) -> None:
    certificate, key = settings.server.ssl_certfile, settings.server.ssl_keyfile
    if certificate is None:
        if key is not None:
            problems.append("server.ssl_certfile: missing; server.ssl_keyfile is set")
        return
    try:
        # Without the password here, OpenSSL would ask for it on the terminal.
        ssl.create_default_context().load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        files = f"{certificate}, {key}" if key is not None else str(certificate)
        problems.append(f"server.ssl_certfile, server.ssl_keyfile: {files}: {error}")


def _check_authorizer(settings: Settings, contract: Contract, problems: list[str]) -> None:
    if settings.authorizer.url is not None:
        return
    asking = [
        family.name for family in contract.families if family.authorizer is Authorizer.CALLBACK
    ]
    if asking:
        families = ", ".join(asking)
        problems.append(
            f"{named('authorizer.url')}: missing; the contract names it for {families}, whose"
            " channels nobody could enter"
        )


def _pem(value: str) -> str:
    """Return a key given as a path, or as PEM text (its newlines may be escaped)."""
    if "-----BEGIN" in value:
        return value.replace("\\n", "\n")
    return Path(value).read_text(encoding="utf-8")


def _contract(settings: Settings, problems: list[str]) -> Contract:
    try:
        return load_contract(settings.contract.file or HOTEL_CONTRACT)
    except ContractError as error:
        problems += [f"{named('contract.file')}: {problem}" for problem in error.problems]
        return Contract("", ())

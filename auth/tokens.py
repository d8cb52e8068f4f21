"""Tokens (JWT, RFC 7519), verified and signed: the only module that imports PyJWT.

A token names its algorithm, and is never trusted in that: the name only selects among the keys
that were configured for it. Headers that carry or point to a key (`jwk`, `jku`, `x5u`) are not
read.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey, Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from auth import values
from auth.errors import AuthError, TokenExpired, TokenInvalid, UnknownKey
from auth.principal import DEFAULT_CLAIM_NAMES, ClaimNames, Principal, principal_from_claims

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
PrivateKey: TypeAlias = (
    RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey
)

MAX_TOKEN_CHARS: Final = 8192
MIN_SECRET_BYTES: Final = 32
MIN_RSA_BITS: Final = 2048
MAX_JWKS_KEYS: Final = 100

HMAC_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
EDDSA_ALGORITHMS: Final = ("EdDSA",)
CURVE_ALGORITHMS: Final = {
    "secp256r1": "ES256",
    "secp384r1": "ES384",
    "secp521r1": "ES512",
    "secp256k1": "ES256K",
}
PUBLIC_KEY_ALGORITHMS: Final = frozenset(
    {*RSA_ALGORITHMS, *EDDSA_ALGORITHMS, *CURVE_ALGORITHMS.values()}
)
"""What a key that is fetched may serve: never an HMAC, for the key is public."""

_MALFORMED: Final = "token is malformed"
_SEGMENTS: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_ALGORITHM_NAME: Final = re.compile(r"[A-Za-z0-9]{1,16}")
_ENCODED_KEY: Final = re.compile(r"---- ?-?BEGIN |\A\s*(sk-)?(ssh|ecdsa)-")
# Which algorithm's reader understands which kind of JSON Web Key; "oct", a shared secret, is none.
_JWK_READERS: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that tokens are checked against, and the closed set of algorithms it may serve."""

    key: PublicKey | bytes = field(repr=False)
    algorithms: tuple[str, ...]
    kid: str | None = None


KeySource: TypeAlias = Callable[[], Sequence[VerificationKey]]
"""Gives the keys that are valid now."""


def hmac_key(secret: str, kid: str | None = None) -> VerificationKey:
    """Make the key for HS256, HS384 and HS512 from a shared secret.

    Raises ValueError on a secret under 32 bytes, and on a public key in its place: with one,
    whoever knows the public key, that is everybody, could sign.
    """
    return VerificationKey(_hmac_octets(secret), HMAC_ALGORITHMS, kid)


def public_key(pem: str, kid: str | None = None) -> VerificationKey:
    """Make the key for the algorithms that a PEM public key can serve.

    Raises ValueError on anything else, and on RSA under 2048 bits.
    """
    if "PRIVATE KEY-----" in pem:
        raise ValueError("this is a private key; verifying needs only its public key")
    if "-----BEGIN CERTIFICATE" in pem:
        raise ValueError(
            "this is a certificate; extract its key: openssl x509 -pubkey -noout -in FILE"
        )
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a PEM public key (it begins -----BEGIN PUBLIC KEY-----)") from None
    return _asymmetric(key, kid)


def jwks_keys(document: Mapping[str, object]) -> tuple[VerificationKey, ...]:
    """Make the keys of a JSON Web Key Set (RFC 7517).

    Entries that cannot verify tokens here are left out, as the RFC asks: an issuer may publish
    more kinds than a reader knows. A shared secret is left out too, for the set is public.
    Raises ValueError where none is left, or where there are more than 100.
    """
    entries = document.get("keys")
    if isinstance(entries, list) and len(entries) > MAX_JWKS_KEYS:
        raise ValueError(f"the key set holds more than {MAX_JWKS_KEYS} keys")
    found = [_jwk(entry) for entry in entries] if isinstance(entries, list) else []
    keys = tuple(key for key in found if key is not None)
    if not keys:
        raise ValueError("the key set holds no public key that can verify tokens")
    return keys


class TokenVerifier:
    """Turns a token into the principal it proves, or refuses it."""

    __slots__ = ("_audience", "_issuer", "_jwt", "_leeway_s", "_names", "_source")

    def __init__(
        self,
        keys: Sequence[VerificationKey] | KeySource,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        leeway_s: float = 0.0,
        names: ClaimNames = DEFAULT_CLAIM_NAMES,
    ) -> None:
        """Accept what any of the keys has signed; issuer and audience are checked when given.

        A source in place of the keys is asked at every token.
        """
        if not 0 <= leeway_s < math.inf:
            raise ValueError("the token leeway must be zero or more seconds")
        self._source = keys if callable(keys) else lambda fixed=tuple(keys): fixed
        self._issuer = issuer
        self._audience = audience
        self._leeway_s = leeway_s
        self._names = names
        # PyJWT reads the clock itself, and insists that `sub` is a string: both are checked here.
        self._jwt = jwt.PyJWT(
            {
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_sub": False,
                "verify_jti": False,
                "verify_iss": issuer is not None,
                "verify_aud": audience is not None,
            }
        )

    def verify(self, token: str, now: float) -> Principal:
        """Return whom the token proves at `now`.

        Raises TokenInvalid: TokenExpired, or UnknownKey where only its keys may be out of date.
        """
        keys = self._source()
        if not keys:
            raise UnknownKey("no token key is configured")
        if len(token) > MAX_TOKEN_CHARS:
            raise TokenInvalid(f"token is longer than {MAX_TOKEN_CHARS} characters")
        segments = _SEGMENTS.fullmatch(token)
        if segments is None:
            raise TokenInvalid(_MALFORMED)
        self._check_signature(token, _json_object(segments[1]), keys)
        # Read again rather than taken from PyJWT, which lets a repeated name pass.
        claims = _json_object(segments[2])
        principal = principal_from_claims(claims, self._names)
        self._check_times(principal, claims.get("nbf"), now)
        return principal

    def _check_signature(
        self, token: str, header: Mapping[str, object], keys: Sequence[VerificationKey]
    ) -> None:
        algorithm, kid = _signed_with(header)
        fitting = [key for key in keys if algorithm in key.algorithms]
        named = fitting
        if kid is not None:
            # A key without an id may be the one meant; a key with another id is not.
            named = [key for key in fitting if key.kid == kid]
            named = named or [key for key in fitting if key.kid is None]
        if any(self._is_signed(token, key, algorithm) for key in named):
            return
        if not fitting:
            reason = f"algorithm {algorithm} is not accepted"
        elif not named:
            reason = "token names a key that is not known here"
        else:
            reason = "token signature does not match"
        if kid is None:
            all_known = bool(fitting) and all(key.kid is not None for key in fitting)
        else:
            all_known = any(key.kid == kid for key in keys)
        fetchable = algorithm in PUBLIC_KEY_ALGORITHMS and not all_known
        raise (UnknownKey if fetchable else TokenInvalid)(reason)

    def _is_signed(self, token: str, key: VerificationKey, algorithm: str) -> bool:
        try:
            self._jwt.decode(
                token, key.key, [algorithm], audience=self._audience, issuer=self._issuer
            )
        except jwt.InvalidSignatureError:
            return False
        except jwt.InvalidIssuerError:
            raise TokenInvalid("token comes from another issuer") from None
        except jwt.InvalidAudienceError:
            raise TokenInvalid("token is meant for another audience") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenInvalid(f'claim "{error.claim}" is missing') from None
        except jwt.PyJWTError:
            raise TokenInvalid(_MALFORMED) from None
        return True

    def _check_times(self, principal: Principal, not_before: object, now: float) -> None:
        if now >= principal.exp + self._leeway_s:
            raise TokenExpired("token expired")
        latest = now + self._leeway_s
        if principal.iat is not None and principal.iat > latest:
            raise TokenInvalid('token was issued in the future (claim "iat"): compare the clocks')
        if not_before is not None and _seconds(not_before, "nbf") > latest:
            raise TokenInvalid('token is not valid yet (claim "nbf")')


class TokenSigner:
    """Signs tokens with one key."""

    __slots__ = ("_algorithm", "_header", "_key")

    def __init__(self, key: str, algorithm: str = "HS256", kid: str | None = None) -> None:
        """Take a shared secret for HS algorithms, else a PEM private key; ValueError otherwise."""
        self._algorithm = algorithm
        self._header = None if kid is None else {"kid": kid}
        self._key: PrivateKey | bytes
        if algorithm in HMAC_ALGORITHMS:
            self._key = _hmac_octets(key)
            return
        private = _private_key(key)
        fitting = _asymmetric(private.public_key(), None).algorithms
        if algorithm not in fitting:
            raise ValueError(f"this key signs {', '.join(fitting)}, not {algorithm}")
        self._key = private

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return the token; what the claims say is the caller's to get right."""
        return jwt.encode(dict(claims), self._key, self._algorithm, self._header)


def _hmac_octets(secret: str) -> bytes:
    if _ENCODED_KEY.search(secret):
        raise ValueError("the token secret is a PEM or SSH key; configure it as the public key")
    octets = secret.encode()
    if len(octets) < MIN_SECRET_BYTES:
        raise ValueError(
            f"the token secret has {len(octets)} bytes; it needs {MIN_SECRET_BYTES} or more"
            " (for a new one: openssl rand -hex 32)"
        )
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(octets)
    except jwt.InvalidKeyError:
        raise ValueError("the token secret is an encoded key; use a random string") from None
    # HMAC itself fills a short key up with zeros to 64 bytes and more (RFC 2104), so this changes
    # no signature; without it PyJWT warns at every HS512 token of a secret under 64 bytes.
    return octets.ljust(64, b"\0")


def _asymmetric(key: object, kid: str | None) -> VerificationKey:
    match key:
        case RSAPublicKey():
            if key.key_size < MIN_RSA_BITS:
                raise ValueError(
                    f"the RSA key has {key.key_size} bits; it needs {MIN_RSA_BITS} or more"
                )
            return VerificationKey(key, RSA_ALGORITHMS, kid)
        case EllipticCurvePublicKey():
            algorithm = CURVE_ALGORITHMS.get(key.curve.name)
            if algorithm is None:
                raise ValueError(f"no token algorithm uses the curve {key.curve.name}")
            return VerificationKey(key, (algorithm,), kid)
        case Ed25519PublicKey() | Ed448PublicKey():
            return VerificationKey(key, EDDSA_ALGORITHMS, kid)
        case _:
            raise ValueError("no token algorithm uses this kind of key; use RSA, EC or Ed25519")


def _jwk(entry: object) -> VerificationKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    purposes = entry.get("key_ops", ["verify"])
    if not isinstance(purposes, list) or "verify" not in purposes:
        return None
    reader, kid = _JWK_READERS.get(str(entry.get("kty"))), entry.get("kid")
    if reader is None or not (kid is None or isinstance(kid, str)):
        return None
    try:
        # A private key is refused like any other that is not public.
        key = _asymmetric(jwt.get_algorithm_by_name(reader).from_jwk(entry), kid)
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None
    algorithm = entry.get("alg")
    if algorithm is None:
        return key
    return VerificationKey(key.key, (algorithm,), kid) if algorithm in key.algorithms else None


def _private_key(pem: str) -> PrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not a PEM private key without a password") from None
    if isinstance(key, PrivateKey):
        return key
    raise ValueError("tokens cannot be signed with this kind of key; use RSA, EC or Ed25519")


def _signed_with(header: Mapping[str, object]) -> tuple[str, str | None]:
    """Return the algorithm and the key id that a header names."""
    if "crit" in header:
        raise TokenInvalid("token has critical header extensions, which are not accepted")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not _ALGORITHM_NAME.fullmatch(algorithm):
        raise TokenInvalid(_MALFORMED)
    if "kid" in header and not isinstance(kid, str):
        raise TokenInvalid(_MALFORMED)
    return algorithm, kid if isinstance(kid, str) else None


def _json_object(segment: str) -> dict[str, object]:
    try:
        octets = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        value: object = json.loads(
            octets.decode(), object_pairs_hook=_unique_names, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise TokenInvalid(_MALFORMED) from None
    if not isinstance(value, dict):
        raise TokenInvalid(_MALFORMED)
    return value


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    # Two readers of one token could each believe another of the two (RFC 8725 section 2.4).
    if len(members) != len(pairs):
        raise TokenInvalid("token has the same name twice in one object")
    return members


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _seconds(value: object, name: str) -> float:
    try:
        return values.number(value, f'claim "{name}"')
    except AuthError as error:
        raise TokenInvalid(error.reason) from None

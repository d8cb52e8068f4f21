"""Key pairs made once a run, and tokens put together by hand, as an attacker would."""

import base64
import hmac
import json
from dataclasses import dataclass
from functools import cache

import jwt
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

SECRET = "the-secret-that-every-test-knows-0123456789"
OTHER_SECRET = "another-secret-that-nobody-was-told-abcdefgh"
NOW = 1_700_000_000.0
ASYMMETRIC = [
    *(("rsa", f"{family}{bits}") for family in ("RS", "PS") for bits in (256, 384, 512)),
    ("p256", "ES256"),
    ("p384", "ES384"),
    ("p521", "ES512"),
    ("secp256k1", "ES256K"),
    ("ed25519", "EdDSA"),
    ("ed448", "EdDSA"),
]
CLAIMS: dict[str, object] = {"sub": "staff-12", "exp": NOW + 3600}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and its public half, both as PEM."""

    private: str
    public: str


def pair(key: PrivateKeyTypes) -> KeyPair:
    """Write both halves of a key as PEM."""
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(private.decode(), public.decode())


@cache
def key_pair(name: str) -> KeyPair:
    """Return the pair of this name; "other-rsa" is an attacker's."""
    match name:
        case "rsa" | "other-rsa":
            return pair(rsa.generate_private_key(65537, 2048))
        case "short-rsa":
            return pair(rsa.generate_private_key(65537, 1024))  # noqa: S505 - to be refused
        case "ed25519":
            return pair(ed25519.Ed25519PrivateKey.generate())
        case "ed448":
            return pair(ed448.Ed448PrivateKey.generate())
        case "x25519":
            return pair(x25519.X25519PrivateKey.generate())
        case "dsa":
            return pair(dsa.generate_private_key(1024))  # noqa: S505 - to be refused
        case "secp256k1":
            return pair(ec.generate_private_key(ec.SECP256K1()))
        case "p384":
            return pair(ec.generate_private_key(ec.SECP384R1()))
        case "p521":
            return pair(ec.generate_private_key(ec.SECP521R1()))
        case "brainpool":
            return pair(ec.generate_private_key(ec.BrainpoolP256R1()))
        case _:
            return pair(ec.generate_private_key(ec.SECP256R1()))


def segment(value: object) -> str:
    """Encode one part of a token: bytes and text as they are, anything else as JSON."""
    if isinstance(value, str):
        value = value.encode()
    octets = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def forge(
    header: object, claims: object = CLAIMS, secret: str = SECRET, digest: str = "sha256"
) -> str:
    """Sign with HMAC whatever the header says and however odd its parts are."""
    message = f"{segment(header)}.{segment(claims)}"
    signature = hmac.digest(secret.encode(), message.encode(), digest)
    return f"{message}.{segment(signature)}"


def hs256(claims: object) -> str:
    """Sign any payload, valid JSON or not, with the right secret."""
    return forge({"alg": "HS256"}, claims)


def jwk(name: str, **members: object) -> dict[str, object]:
    """Publish the public half of a key pair as an issuer does."""
    key = load_pem_public_key(key_pair(name).public.encode())
    algorithm = next(algorithm for pair, algorithm in ASYMMETRIC if pair in (name, name[-3:]))
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return {"use": "sig"} | made | members

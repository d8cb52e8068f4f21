"""HMAC-SHA256 and Pusher's `KEY:signature` strings: the only module that imports hmac."""

import hmac
import re
from typing import Final

from auth.errors import SignatureInvalid

_SOCKET_ID: Final = re.compile(r"[0-9]+\.[0-9]+")


def sign(secret: str, message: str) -> str:
    """Return the HMAC-SHA256 of the message, 64 lower-case hex digits."""
    return hmac.digest(_octets(secret), _octets(message), "sha256").hex()


def matches(secret: str, message: str, signature: str) -> bool:
    """Say in constant time whether the signature is the message's; any string may be asked."""
    return same(signature, sign(secret, message))


def same(given: str, expected: str) -> bool:
    """Say in constant time whether two secrets are the same; any string may be asked."""
    # Bytes, because compare_digest raises on a str that is not ASCII.
    return hmac.compare_digest(_octets(given), _octets(expected))


def key_and_signature(key: str, secret: str, message: str) -> str:
    """Return what a client presents as `auth`: `KEY:signature`."""
    return f"{key}:{sign(secret, message)}"


def check_key_and_signature(key: str, secret: str, message: str, auth: str) -> None:
    """Raise SignatureInvalid unless `auth` is this key's signature of the message."""
    named_key, colon, signature = auth.rpartition(":")
    if not colon:
        raise SignatureInvalid("auth must have the form KEY:SIGNATURE")
    if named_key != key:
        raise SignatureInvalid("auth was made with the key of another app")
    if not matches(secret, message, signature):
        raise SignatureInvalid("auth signature does not match")


def require_socket_id(socket_id: str) -> None:
    """Raise SignatureInvalid unless it is digits, a dot and digits.

    Parts of a signed message are joined by colons: a socket id or a channel with a colon inside
    would turn the signature for one thing into the signature for another.
    """
    if not _SOCKET_ID.fullmatch(socket_id):
        raise SignatureInvalid("socket_id must be two numbers joined by a dot")


def _octets(value: str) -> bytes:
    # A lone surrogate must fail to match, not raise: whoever sent it is only wrong.
    return value.encode("utf-8", "surrogatepass")

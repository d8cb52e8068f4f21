"""Signed HTTP API requests, as Pusher's server libraries make them.

Signed are three lines: method, path, query. The query is `name=value` joined by `&`, without
`auth_signature`, names in lower case and sorted, values as they were before URL encoding.
Source: Pusher, HTTP API reference, "Authentication"; what the released libraries really send
where that page is silent is noted at each check.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from auth.apps import App
from auth.errors import RequestRefused
from auth.signatures import matches, sign

MAX_CLOCK_OFFSET_S: Final = 600
AUTH_VERSION: Final = "1.0"

_UNAUTHORIZED: Final = 401
# As many digits as no clock will need: int() of a long string is slow.
_TIMESTAMP: Final = re.compile(r"[0-9]{1,15}")
# PHP sends a list as name[0]=a&name[1]=b (or name[]=a) and signs name=a,b.
_LIST_INDEX: Final = re.compile(r"\[[0-9]*\]\Z")


def sign_request(  # noqa: PLR0917 - the parts of a request, in its own order
    app: App,
    method: str,
    path: str,
    body: bytes,
    now: float,
    params: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the whole query of a request, `auth_signature` included, not yet URL-encoded."""
    query = dict(params or {}) | {
        "auth_key": app.key,
        "auth_timestamp": str(int(now)),
        "auth_version": AUTH_VERSION,
    }
    if body:
        query["body_md5"] = _md5(body)
    signed = _signed_params(query.items())
    return query | {"auth_signature": sign(app.secret, _message(method, path, signed))}


def verify_request(  # noqa: PLR0917 - as above
    app: App,
    method: str,
    raw_path: str,
    query: Sequence[tuple[str, str]],
    body: bytes,
    now: float,
) -> None:
    """Raise RequestRefused (401) unless the app signed this very request within 600 s of `now`.

    `raw_path` is the path as it came, without the query; `query` its URL-decoded pairs in order;
    `body` the bytes as they came.
    """
    params = _signed_params(query)
    signature = params.pop("auth_signature", None)
    if signature is None:
        raise _refused("auth_signature is missing")
    if params.get("auth_key") != app.key:
        raise _refused("auth_key is missing or is not the key of this app")
    if params.get("auth_version") != AUTH_VERSION:
        raise _refused(f"auth_version must be {AUTH_VERSION}")
    _check_timestamp(params.get("auth_timestamp"), now)
    _check_body(params.get("body_md5"), body)
    if matches(app.secret, _message(method, raw_path, params), signature):
        return
    # Libraries sign the path before their HTTP stack escapes it: a user id may differ by that.
    path = unquote(raw_path)
    if path == raw_path or not matches(app.secret, _message(method, path, params), signature):
        raise _refused(
            "auth_signature does not match: check the secret, and that nothing on the way"
            " rewrites the path or the query"
        )


def _check_timestamp(timestamp: str | None, now: float) -> None:
    if timestamp is None:
        raise _refused("auth_timestamp is missing")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise _refused("auth_timestamp must be whole seconds since 1970")
    offset = abs(now - int(timestamp))
    if offset > MAX_CLOCK_OFFSET_S:
        raise _refused(
            f"auth_timestamp is {math.ceil(offset)} s off; the limit is {MAX_CLOCK_OFFSET_S} s"
        )


def _check_body(body_md5: str | None, body: bytes) -> None:
    if body_md5 is None:
        if body:
            raise _refused("body_md5 is missing; a request with a body needs it")
        return
    # The Python library sends the MD5 of nothing with every GET, and signs it.
    if body_md5.lower() != _md5(body):
        raise _refused("body_md5 is not the MD5 of the body as it arrived")


def _signed_params(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for given, value in pairs:
        name = given.lower()
        if name.endswith("]"):
            name = _LIST_INDEX.sub("", name)
        if name in values:
            values[name].append(value)
        else:
            values[name] = [value]
    return {name: ",".join(values[name]) for name in sorted(values)}


def _message(method: str, path: str, params: Mapping[str, str]) -> str:
    query = "&".join([f"{name}={value}" for name, value in params.items()])
    return f"{method.upper()}\n{path}\n{query}"


def _md5(body: bytes) -> str:
    # The protocol's choice. It guards nothing alone: the HMAC covers it.
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _refused(reason: str) -> RequestRefused:
    return RequestRefused(reason, _UNAUTHORIZED)

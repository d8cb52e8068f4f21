"""`/pusher/auth` and `/pusher/user-auth`: authorization for a client that holds a JWT.

What is signed carries the token's claims, so that the socket knows who speaks, what it may hear and
when that ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from auth import access
from auth.access import Refusal
from auth.apps import App, AppRegistry
from auth.channel_auth import sign_channel
from auth.errors import AuthError, KeysUnavailable
from auth.origins import Origins
from auth.principal import Principal
from auth.revocations import Revocations
from auth.user_auth import sign_user
from channels_spec.contract import Contract
from channels_spec.pusher import SOCKET_ID, is_channel_name, kind_of
from server.audit import Audit
from server.http.answers import JSON, Refused, body_of

_MAX_BODY: Final = 16 * 1024
_PREFLIGHT_AGE_S: Final = 600


class Verifier(Protocol):
    """Who knows the token keys."""

    async def verified(self, token: str) -> Principal:
        """Return the token's principal, waiting for its key if need be; raises `AuthError`."""


class ClientAuth:
    """The endpoints that a client's library asks for signatures."""

    def __init__(
        self,
        *,
        apps: AppRegistry,
        default: App,
        verifier: Verifier,
        contract: Contract,
        origins: Origins,
        revocations: Revocations,
        cookie_token: Callable[[str | None], str | None],
        audit: Audit | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the endpoints; they sign for the app whose key is in the query, or ``default``."""
        self._apps = apps
        self._default = default
        self._verifier = verifier
        self._contract = contract
        self._origins = origins
        self._revocations = revocations
        self._cookie_token = cookie_token
        self._audit = audit or Audit()
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        """Return the endpoints."""
        methods = ["POST", "OPTIONS"]
        return [
            Route("/pusher/auth", self.channel, methods=methods),
            Route("/pusher/user-auth", self.user, methods=methods),
        ]

    async def channel(self, request: Request) -> Response:
        """Sign a subscription to a private- or presence- channel."""
        if request.method == "OPTIONS":
            return self._preflight(request)
        return await self._answered(request, self._channel)

    async def user(self, request: Request) -> Response:
        """Sign a signin."""
        if request.method == "OPTIONS":
            return self._preflight(request)
        return await self._answered(request, self._user)

    async def _answered(
        self,
        request: Request,
        sign: Callable[[App, Principal, dict[str, str]], dict[str, str]],
    ) -> Response:
        """Answer, with CORS headers on refusals too: else a page can't read why."""
        app = self._app(request)
        headers = self._cors(app, request)
        whose = {"app": app.id}
        try:
            if not app.enabled:
                raise Refused(403, "the app is disabled")
            form = await self._form(app, request)
            whose |= {"channel": form.get("channel_name", ""), "socket_id": form["socket_id"]}
            principal = await self._principal(app, request)
            whose["sub"] = principal.sub
            answer = sign(app, principal, form)
            self._audit.note("sign", outcome="accepted", **whose)
        except Refused as refused:
            known = "sub" in whose
            self._audit.refused("sign", refused.status, refused.reason, known=known, **whose)
            return JSON({"error": refused.reason}, status_code=refused.status, headers=headers)
        return JSON(answer, headers={**headers, "Cache-Control": "no-store"})

    def _channel(self, app: App, principal: Principal, form: dict[str, str]) -> dict[str, str]:
        channel = form.get("channel_name", "")
        if not is_channel_name(channel) or not kind_of(channel).signed:
            raise Refused(400, "channel_name must be a private- or presence- channel")
        match = self._contract.match(channel)
        if match is None:
            raise Refused(403, "the channel is not in the contract")
        left = self._revocations.curtail(principal, self._clock())
        if left is None:
            raise Refused(403, "the token was revoked")
        decision = access.decide(left, match)
        if isinstance(decision, Refusal):
            raise Refused(decision.status, decision.reason)
        data = _signed_data(principal, "user_id", {"name": principal.name})
        return {
            "auth": sign_channel(app, form["socket_id"], channel, data),
            "channel_data": data,
        }

    def _user(self, app: App, principal: Principal, form: dict[str, str]) -> dict[str, str]:
        data = _signed_data(principal, "id", {"name": principal.name})
        return {"auth": sign_user(app, form["socket_id"], data), "user_data": data}

    def _app(self, request: Request) -> App:
        key = request.query_params.get("key")
        return (self._apps.by_key(key) if key else None) or self._default

    async def _form(self, app: App, request: Request) -> dict[str, str]:
        if not self._origins.of(app).allows(request.headers.get("origin")):
            raise Refused(403, "the page's origin is not allowed")
        body = await body_of(request, _MAX_BODY)
        if request.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
            form = _json_form(body)
        else:
            form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        if not SOCKET_ID.fullmatch(form.get("socket_id", "")):
            raise Refused(400, "socket_id must look like 123.456")
        return form

    async def _principal(self, app: App, request: Request) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        origin, host = request.headers.get("origin"), request.headers.get("host")
        if scheme.lower() != "bearer" or not token:
            token = ""
            if self._origins.of(app).trusts_cookie(origin, host):
                token = self._cookie_token(request.headers.get("cookie")) or ""
        if not token:
            raise Refused(403, "no token: send Authorization: Bearer, or the cookie")
        try:
            principal = await self._verifier.verified(token.strip())
        except KeysUnavailable as error:
            raise Refused(503, error.reason) from None
        except AuthError as error:
            raise Refused(403, error.reason) from None
        if self._revocations.curtail(principal, self._clock()) is None:
            raise Refused(403, "the token was revoked")
        # Signed as the token says it: whoever believes the signature looks at revocations again.
        return principal

    def _preflight(self, request: Request) -> Response:
        headers = self._cors(self._app(request), request)
        if "Access-Control-Allow-Origin" not in headers:
            return JSON({"error": "the page's origin is not allowed"}, status_code=403)
        headers |= {
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": "authorization, content-type",
            "Access-Control-Max-Age": str(_PREFLIGHT_AGE_S),
        }
        return Response(status_code=204, headers=headers)

    def _cors(self, app: App, request: Request) -> dict[str, str]:
        origins = self._origins.of(app)
        allowed = origins.cors(request.headers.get("origin"))
        if allowed is None:
            return {"Vary": "Origin"}
        headers = {"Access-Control-Allow-Origin": allowed, "Vary": "Origin"}
        if origins.trusts_cookie(allowed, request.headers.get("host")):
            headers["Access-Control-Allow-Credentials"] = "true"
        return headers


def _json_form(body: bytes) -> dict[str, str]:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused(400, "the body is not valid JSON") from None
    if not isinstance(decoded, dict):
        raise Refused(400, "the body is not a JSON object")
    return {str(key): value for key, value in decoded.items() if isinstance(value, str)}


def _signed_data(principal: Principal, id_key: str, info: dict[str, object]) -> str:
    data = {id_key: principal.sub, "user_info": info, "bellhop": principal.claims()}
    return orjson.dumps(data).decode()

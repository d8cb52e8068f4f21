"""What `auth` refuses: every error is the peer's fault and says why in words the peer may read."""


class AuthError(Exception):
    """Somebody could not prove who they are, or asked for what is not theirs.

    `reason` is safe to send back: it holds no secret, no token and no expected signature.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TokenInvalid(AuthError):
    """The token proves nothing; the same token will never be accepted."""


class TokenExpired(TokenInvalid):
    """The token was good until its `exp`; a fresh one of the same subject will do."""


class UnknownKey(TokenInvalid):
    """None of the keys at hand made the token, but one that its issuer has added since may have.

    Where keys are fetched, fetch them anew and verify once more; elsewhere the token is invalid.
    """


class KeysUnavailable(AuthError):
    """The issuer's keys cannot be had now, so nothing is known of the token: retry it later."""


class SignatureInvalid(AuthError):
    """A channel or user authorization was not signed with this app's secret."""


class RequestRefused(AuthError):
    """An HTTP API request that must be answered with `status`: 400, 401, 403 or 404."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status

    def __reduce__(self) -> tuple[type["RequestRefused"], tuple[str, int]]:
        # An exception is rebuilt from `args`, which holds the reason alone.
        return type(self), (self.reason, self.status)

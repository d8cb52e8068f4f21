import pickle

import pytest

from auth.errors import AuthError, RequestRefused, SignatureInvalid, TokenExpired, TokenInvalid


@pytest.mark.parametrize(
    "error",
    [
        AuthError("why"),
        TokenInvalid("why"),
        TokenExpired("why"),
        SignatureInvalid("why"),
        RequestRefused("why", 401),
    ],
    ids=lambda error: type(error).__name__,
)
def test_auth_error_carries_its_reason(error: AuthError) -> None:
    """Every refusal is an AuthError whose reason is also its message, and survives a copy."""
    assert isinstance(error, AuthError)
    assert (error.reason, str(error)) == ("why", "why")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), again.reason) == (type(error), "why")


def test_token_expired_is_a_token_invalid() -> None:
    """Who only asks whether a token is good need not know of expiry."""
    assert issubclass(TokenExpired, TokenInvalid)


def test_request_refused_carries_its_status() -> None:
    """The HTTP status travels with the reason, copied or not."""
    error = RequestRefused("no such app", 404)
    assert error.status == 404
    assert pickle.loads(pickle.dumps(error)).status == 404  # noqa: S301 - our own bytes

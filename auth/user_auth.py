"""User authentication (`pusher:signin`): an app's signature that says who one socket is.

Signed is `SOCKET_ID::user::USER_DATA` with the very text that is sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from auth import values
from auth.apps import App
from auth.errors import AuthError
from auth.signatures import check_key_and_signature, key_and_signature, require_socket_id
from channels_spec.pusher import SERVER_TO_USER_PREFIX, is_channel_name

_ID: Final = "id in user_data"


@dataclass(frozen=True, slots=True)
class UserData:
    """What a signed `user_data` says of its user.

    `bellhop` holds the claims of a token (`Principal.claims`) where this server signed it.
    """

    id: str
    user_info: object | None
    watchlist: tuple[str, ...]
    bellhop: Mapping[str, object] | None


def sign_user(app: App, socket_id: str, user_data: str) -> str:
    """Return the `auth` string that signs the socket in as the user of `user_data`.

    Raises SignatureInvalid on a socket id that could make it mean something else.
    """
    return key_and_signature(app.key, app.secret, _message(socket_id, user_data))


def verify_user(app: App, socket_id: str, auth: str, user_data: str) -> None:
    """Raise SignatureInvalid unless the app signed this very sign-in."""
    check_key_and_signature(app.key, app.secret, _message(socket_id, user_data), auth)


def parse_user_data(text: str) -> UserData:
    """Read a `user_data` whose signature was checked; raises AuthError with the reason.

    The watchlist is returned whole: Pusher signs a user in although the list is too long.
    """
    data = values.signed_object(text, "user_data")
    return _user(data, values.identifier(data.get("id"), _ID))


def parse_signed_user(text: str) -> UserData:
    """Read a `user_data` that the app signed: events can be sent to whom it names.

    Where this server signed it, the id is a token's subject, which is as its issuer made it.
    """
    data = values.signed_object(text, "user_data")
    user = _user(data, values.text(data.get("id"), _ID))
    if user.bellhop is None and not is_channel_name(SERVER_TO_USER_PREFIX + user.id):
        raise AuthError(f"{_ID} may have A-Z a-z 0-9 _ - = @ , . ; alone, as channel names")
    return user


def _user(data: Mapping[str, object], user_id: str) -> UserData:
    watchlist, bellhop = data.get("watchlist"), data.get("bellhop")
    return UserData(
        id=user_id,
        user_info=data.get("user_info"),
        watchlist=() if watchlist is None else _watchlist(watchlist),
        bellhop=None if bellhop is None else values.mapping(bellhop, "bellhop in user_data"),
    )


def looks_like_jwt(auth: str) -> bool:
    """Tell a token, which a client may put in `auth` of a sign-in, from a `KEY:signature`."""
    return auth.count(".") == 2 and ":" not in auth  # noqa: PLR2004 - three segments


def _watchlist(value: object) -> tuple[str, ...]:
    what = "watchlist in user_data"
    # The text is bounded, and with it the list: no entry is shorter than its two quotes.
    entries = values.items(value, what, values.MAX_SIGNED_CHARS)
    return tuple(values.text(entry, f"an entry of {what}") for entry in entries)


def _message(socket_id: str, user_data: str) -> str:
    require_socket_id(socket_id)
    return f"{socket_id}::user::{user_data}"

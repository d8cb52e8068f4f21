"""Channel authorization: an app's signature that lets one socket into one channel.

Signed is `SOCKET_ID:CHANNEL`, or `SOCKET_ID:CHANNEL:CHANNEL_DATA` with the very text that is sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from auth import values
from auth.apps import App
from auth.errors import SignatureInvalid
from auth.signatures import check_key_and_signature, key_and_signature, require_socket_id


@dataclass(frozen=True, slots=True)
class ChannelData:
    """What a signed `channel_data` says of its subscriber.

    `bellhop` holds the claims of a token (`Principal.claims`) where this server signed it.
    """

    user_id: str
    user_info: object | None
    bellhop: Mapping[str, object] | None


def sign_channel(app: App, socket_id: str, channel: str, channel_data: str | None = None) -> str:
    """Return the `auth` string that admits the socket to the channel.

    Raises SignatureInvalid on a socket id or a channel that could make it mean something else.
    """
    return key_and_signature(app.key, app.secret, _message(socket_id, channel, channel_data))


def verify_channel(
    app: App, socket_id: str, channel: str, auth: str, channel_data: str | None
) -> None:
    """Raise SignatureInvalid unless the app signed this very subscription.

    A `channel_data` that came along is always covered, on `private-` channels too: clients send
    what their endpoint returned, and what is not signed must not be believed.
    """
    message = _message(socket_id, channel, channel_data)
    check_key_and_signature(app.key, app.secret, message, auth)


def parse_channel_data(text: str) -> ChannelData:
    """Read a `channel_data` whose signature was checked; raises AuthError with the reason.

    `user_id` may be a whole number; what a presence channel further asks of it is not asked here.
    """
    data = values.signed_object(text, "channel_data")
    bellhop = data.get("bellhop")
    return ChannelData(
        user_id=values.identifier(data.get("user_id"), "user_id in channel_data"),
        user_info=data.get("user_info"),
        bellhop=None if bellhop is None else values.mapping(bellhop, "bellhop in channel_data"),
    )


def _message(socket_id: str, channel: str, channel_data: str | None) -> str:
    require_socket_id(socket_id)
    if ":" in channel:
        raise SignatureInvalid("a channel name cannot contain a colon")
    if channel_data is None:
        return f"{socket_id}:{channel}"
    return f"{socket_id}:{channel}:{channel_data}"

"""Client events: what a client may tell the other subscribers of a channel, past the backend."""

from __future__ import annotations

import orjson

from auth.apps import App
from channels_spec.cards import may_hold_cards
from channels_spec.pusher import MAX_EVENT_DATA, ErrorCode, kind_of
from server.protocol.commands import ClientEvent
from server.protocol.effects import Relay
from server.protocol.errors import ProtocolError
from server.protocol.rules import Rules
from server.protocol.subscription import Subscription


def relay(command: ClientEvent, subscription: Subscription | None, app: App, rules: Rules) -> Relay:
    """Check a client's event against the rules; ``subscription`` is its own to the channel.

    Raises:
        ProtocolError: the client is told why; it names the channel.

    """
    channel = command.channel
    if not app.client_events:
        raise _refused(channel, "client events are not enabled for this app")
    if not kind_of(channel).carries_client_events:
        raise _refused(channel, "client events need a private- or presence- channel")
    match = rules.contract.match(channel)
    if match is not None and not match.family.client_events:
        raise _refused(channel, "client events are not enabled on this channel")
    if subscription is None or not subscription.is_in:
        raise _refused(channel, "only a subscriber may send client events")
    data = _text(command.data)
    if len(data) > MAX_EVENT_DATA or len(data.encode()) > MAX_EVENT_DATA:
        raise _refused(channel, f"a client event's data exceeds {MAX_EVENT_DATA} bytes")
    if match is not None and may_hold_cards(data):
        raise _refused(channel, "card data never passes")
    member = subscription.member
    return Relay(channel, command.event, data, member.user_id if member else None)


def _refused(channel: str, reason: str) -> ProtocolError:
    return ProtocolError(reason, ErrorCode.CLIENT_EVENT_REFUSED, channel)


def _text(data: object) -> str:
    """Return a client event's data as Swift reads it: a string."""
    if isinstance(data, str):
        return data
    try:
        return orjson.dumps(data).decode()
    except TypeError:  # orjson reads four times as deep as it writes
        return "null"

"""Reading who is there: channels, their users, connections; and ending a user's connections."""

from __future__ import annotations

from typing import Final

from channels_spec.pusher import ChannelKind, is_channel_name, kind_of
from server.audit import Audit
from server.broker.occupancy import Attribute, Occupancy
from server.http.answers import Refused
from server.http.info import applies, attributes, shown
from server.http.replies import Reply, reply
from server.http.signed import SignedRequest

_PRESENCE: Final = "presence-"
_MAX_USER_ID: Final = 1000
"""More than any token's subject is worth."""


class Channels:
    """The endpoints that read, from what all nodes have written."""

    def __init__(self, occupancy: Occupancy, audit: Audit) -> None:
        self._occupancy = occupancy
        self._audit = audit

    async def listing(self, request: SignedRequest) -> Reply:
        """`GET /channels`: the occupied ones."""
        known = (Attribute.USER_COUNT, Attribute.SUBSCRIPTION_COUNT)
        wanted = attributes(request.parameter("info"), known)
        prefix = request.parameter("filter_by_prefix") or ""
        if Attribute.USER_COUNT in wanted and not prefix.startswith(_PRESENCE):
            reason = f"user_count needs filter_by_prefix={_PRESENCE}: other channels have no users"
            raise Refused(400, reason)
        subscriptions = await self._occupancy.channels(request.app.id, prefix)
        channels: dict[str, dict[str, object]] = {channel: {} for channel in subscriptions}
        if Attribute.USER_COUNT in wanted:
            asked = [(channel, (Attribute.USER_COUNT,)) for channel in channels]
            values = await self._occupancy.values(request.app.id, asked)
            channels = dict(zip(channels, map(shown, values), strict=True))
        if Attribute.SUBSCRIPTION_COUNT in wanted:
            for channel, count in subscriptions.items():
                channels[channel][Attribute.SUBSCRIPTION_COUNT.value] = count
        return reply({"channels": channels})

    async def one(self, request: SignedRequest) -> Reply:
        """`GET /channels/{name}`: whether it is occupied, and what is asked of it."""
        channel = _channel(request)
        wanted = attributes(request.parameter("info"), tuple(Attribute))
        for attribute in wanted:
            if not applies(attribute, channel):
                raise Refused(400, f"the channel {channel} has no {attribute}")
        asked = {*wanted, Attribute.SUBSCRIPTION_COUNT}
        (values,) = await self._occupancy.values(request.app.id, [(channel, asked)])
        occupied = values[Attribute.SUBSCRIPTION_COUNT] != 0
        asked_for = shown({attribute: values[attribute] for attribute in wanted})
        return reply({"occupied": occupied, **asked_for})

    async def users(self, request: SignedRequest) -> Reply:
        """`GET /channels/{name}/users`: the members of a presence channel."""
        channel = _channel(request)
        if kind_of(channel) is not ChannelKind.PRESENCE:
            raise Refused(400, "only presence channels have users")
        ids = await self._occupancy.user_ids(request.app.id, channel)
        return reply({"users": [{"id": each} for each in ids]})

    async def connections(self, request: SignedRequest) -> Reply:
        """`GET /connections`: how many there are."""
        return reply({"connections": await self._occupancy.connections(request.app.id)})

    async def terminate(self, request: SignedRequest) -> Reply:
        """`POST /users/{id}/terminate_connections`: on every node."""
        (user_id,) = request.names
        if not 0 < len(user_id) <= _MAX_USER_ID:
            raise Refused(400, f"a user's id has 1 to {_MAX_USER_ID} characters")
        await self._occupancy.terminate(request.app.id, user_id)
        self._audit.note("terminate", app=request.app.id, sub=user_id, entrance="http")
        return Reply(200)


def _channel(request: SignedRequest) -> str:
    (channel,) = request.names
    if not is_channel_name(channel):
        raise Refused(400, "not a channel name: at most 200 of A-Z a-z 0-9 _ - = @ , . ;")
    return channel

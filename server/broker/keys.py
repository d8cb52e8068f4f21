"""The names of Bellhop's keys in Redis.

All keys and the bus channel of one channel share the hash tag ``{app:channel}``, so that no script
touches two slots. Neither an app's id nor a channel's name has a colon or a brace in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from channels_spec.pusher import SERVER_TO_USER_PREFIX


@dataclass(frozen=True, slots=True)
class Keys:
    """Names under one prefix."""

    prefix: str

    def channel(self, app_id: str, channel: str) -> str:
        """Return the hash of a channel, which its other keys begin with."""
        return f"{self.prefix}{{{app_id}:{channel}}}"

    def bus(self, app_id: str, channel: str) -> str:
        """Return the pub/sub channel on which nodes hear a channel."""
        return f"{self.channel(app_id, channel)}:bus"

    def online(self, app_id: str, user_id: str) -> str:
        """Return the hash of nodes that a user is signed in on."""
        return f"{self.channel(app_id, SERVER_TO_USER_PREFIX + user_id)}:online"

    def beside(self, name: str, what: str) -> str:
        """Return a key in the slot of the key that is ``name`` after the prefix.

        Redis Cluster takes what stands in a name's first braces for the whole: that name, or what
        the prefix has in braces of its own.
        """
        return f"{self.prefix}{what}:{{{self.prefix}{name}}}"

    @property
    def nodes(self) -> str:
        """The sorted set of nodes by their last heartbeat."""
        return f"{self.prefix}nodes"

    def node(self, node_id: str, what: str) -> str:
        """Return one of a node's own hashes: `channels`, `users`, `apps`."""
        return f"{self.prefix}node:{node_id}:{what}"

    @property
    def revocations(self) -> str:
        """The hash of everything that is revoked."""
        return f"{self.prefix}revocations"

    @property
    def revoke(self) -> str:
        """The pub/sub channel by which a backend revokes."""
        return f"{self.prefix}revoke"

    @property
    def control(self) -> str:
        """The pub/sub channel of orders to every node."""
        return f"{self.prefix}control"

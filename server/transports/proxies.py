"""Whose address a connection has, where proxies stand before the server."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

UNIX: Final = "unix"
"""Stands for the peers of a unix socket, which have no address."""


class TrustedProxies:
    """The proxies whose word is taken for whom they ask: that of X-Forwarded-For."""

    __slots__ = ("_networks", "_unix")

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """Take addresses, networks and `unix`; raises ValueError."""
        entries = set(trusted)
        self._unix = UNIX in entries
        self._networks = tuple(ip_network(entry) for entry in entries - {UNIX})

    def client(self, peer: str, forwarded_for: str | None) -> str:
        """Return the client's address; empty where it has none.

        Args:
            peer: the other end of the connection; empty for a unix socket.
            forwarded_for: X-Forwarded-For. Each proxy adds whom it heard at its right end: the
                first from there that is not a trusted proxy's was written by one that is.

        """
        if forwarded_for is None or not self._trusts(peer):
            return peer
        client = peer
        for hop in reversed(forwarded_for.split(",")):
            address = _address(hop)
            if address is None:
                # Whatever stands further left is said by nobody we know.
                return client
            client = str(address)
            if not self._holds(address):
                return client
        return client

    def _trusts(self, peer: str) -> bool:
        if not peer:
            return self._unix
        address = _address(peer) if self._networks else None
        return address is not None and self._holds(address)

    def _holds(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; some proxies add the port, and brackets."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address

"""Revocations over HTTP; ours, not Pusher's."""

from __future__ import annotations

from server.http.answers import Refused
from server.http.replies import Reply, reply
from server.http.signed import SignedRequest
from server.revoking import BadRevocation, Revoking


class Revocations:
    """The endpoint that ends rights now."""

    def __init__(self, revoking: Revoking) -> None:
        self._revoking = revoking

    async def revoke(self, request: SignedRequest) -> Reply:
        """Revoke `{"sub"|"jti"|"hotel"|"role"}` on every node, or lift that (`"undo": true`)."""
        try:
            revocation_id = await self._revoking.obey(request.json())
        except BadRevocation as error:
            raise Refused(400, str(error)) from None
        return reply({"id": revocation_id} if revocation_id else {})

"""Admission: one subscribe judged, by what the connection knows of who speaks.

Three ways lead into a channel: a signature that the backend (or `/pusher/auth`) made for this very
socket, the right of the connection's principal, and, outside the contract, that the channel is
public.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from auth import access, channel_auth
from auth.access import PLAIN_GRANT, Grant, Refusal
from auth.apps import App
from auth.errors import AuthError, SignatureInvalid
from auth.principal import Kind, Principal, principal_from_claims
from channels_spec.contract import Authorizer, ChannelMatch
from channels_spec.pusher import SERVER_TO_USER_PREFIX, ChannelKind, kind_of
from server.protocol.commands import Subscribe
from server.protocol.errors import SubscriptionRefused
from server.protocol.presence import Member, member
from server.protocol.rules import Rules
from server.protocol.subscription import Subscription


@dataclass(frozen=True, slots=True)
class Speaker:
    """What a connection knows of its client."""

    app: App
    socket_id: str
    principal: Principal | None
    user_id: str | None
    """The signed-in user, whether or not a token came with it."""
    user_info: object | None
    may_yet_authenticate: bool


@dataclass(frozen=True, slots=True)
class Admitted:
    """A subscribe that is let in."""

    subscription: Subscription
    proven: bool = False
    """Whether a signature proved that the client is known, so that the connection may stay."""
    expires_at: float | None = None
    """When the signed token behind it ends; with it ends the connection."""


def judge(command: Subscribe, speaker: Speaker, rules: Rules, now: float) -> Admitted | None:
    """Judge a subscribe; ``None`` where it must wait until it is known who speaks.

    Raises:
        SubscriptionRefused: the client is told why.

    """
    channel, kind = command.channel, kind_of(command.channel)
    if kind is ChannelKind.SERVER_TO_USER:
        return _own_user_channel(channel, speaker)
    match = rules.contract.match(channel)
    if match is None and not rules.serves_unlisted:
        raise SubscriptionRefused(channel, 403, "the channel is not in the contract")
    if kind.signed and command.auth:
        return _signed(command, speaker, match, rules, now)
    if match is not None:
        return _guarded(channel, speaker, match)
    if kind.signed:
        raise SubscriptionRefused(channel, 401, "the channel needs a signature in auth")
    return Admitted(Subscription(PLAIN_GRANT, by_principal=False))


def signed_principal(
    sub: str, bellhop: Mapping[str, object] | None, now: float
) -> Principal | None:
    """Return the principal that a signed `bellhop` object describes, if there is one."""
    if bellhop is None:
        return None
    principal = principal_from_claims({**bellhop, "sub": sub})
    if principal.exp <= now:
        raise AuthError("the token has expired")
    return principal


def _own_user_channel(channel: str, speaker: Speaker) -> Admitted | None:
    if speaker.user_id is None:
        if speaker.may_yet_authenticate:
            return None
        # A token alone may yet be replaced by that of somebody else; the user of a signin stays.
        reason = "the channel needs a signin (pusher:signin), and nobody has signed in"
        raise SubscriptionRefused(channel, 403, reason)
    if channel != SERVER_TO_USER_PREFIX + speaker.user_id:
        raise SubscriptionRefused(channel, 403, "the channel is of another user")
    return Admitted(Subscription(PLAIN_GRANT, by_principal=False))


def _guarded(channel: str, speaker: Speaker, match: ChannelMatch) -> Admitted | None:
    principal = speaker.principal
    if principal is None:
        if speaker.user_id is not None:
            reason = "the signed-in user_data carries no token for guarded channels"
            raise SubscriptionRefused(channel, 403, reason)
        if speaker.may_yet_authenticate:
            return None
        raise SubscriptionRefused(channel, 401, "nobody is authenticated")
    grant = _granted(channel, principal, match)
    subscription = by_right_of(principal, channel, grant, speaker.app)
    subscription.asks = _asked_about(principal, match)
    return Admitted(subscription)


def _asked_about(principal: Principal | None, match: ChannelMatch | None) -> Principal | None:
    """Return whom the backend must be asked about; operators' machines need no leave."""
    if principal is None or match is None or principal.kind is Kind.SERVICE:
        return None
    return principal if match.family.authorizer is Authorizer.CALLBACK else None


def by_right_of(principal: Principal, channel: str, grant: Grant, app: App) -> Subscription:
    """Return a principal's own subscription; raises `SubscriptionRefused`."""
    who = None
    if kind_of(channel) is ChannelKind.PRESENCE:
        info = {"name": principal.name}
        who = member(channel, principal.sub, info, app.limits.presence_bytes)
    return Subscription(grant, by_principal=True, member=who)


def _signed(
    command: Subscribe, speaker: Speaker, match: ChannelMatch | None, rules: Rules, now: float
) -> Admitted:
    channel, data = command.channel, command.channel_data
    try:
        channel_auth.verify_channel(speaker.app, speaker.socket_id, channel, command.auth, data)
        said = channel_auth.parse_channel_data(data) if data is not None else None
        principal = signed_principal(said.user_id, said.bellhop, now) if said is not None else None
    except SignatureInvalid as error:
        raise SubscriptionRefused(channel, 401, error.reason) from None
    except AuthError as error:
        raise SubscriptionRefused(channel, 403, error.reason) from None
    left = rules.revocations.curtail(principal, now) if principal is not None else None
    if principal is not None and left is None:
        raise SubscriptionRefused(channel, 403, "the right behind the signature was revoked")
    if match is None:
        grant = PLAIN_GRANT
    elif left is None:
        grant = access.least_grant(match)
    else:
        grant = _granted(channel, left, match)
    who = _member(channel, said, speaker)
    expires_at = principal.exp if principal is not None else None
    signed = (principal, command) if principal is not None else None
    subscription = Subscription(grant, by_principal=False, member=who, signed=signed)
    subscription.asks = _asked_about(left, match)
    return Admitted(subscription, proven=True, expires_at=expires_at)


def _granted(channel: str, principal: Principal, match: ChannelMatch) -> Grant:
    decision = access.decide(principal, match)
    if isinstance(decision, Refusal):
        raise SubscriptionRefused(channel, decision.status, decision.reason)
    return decision


def _member(channel: str, said: channel_auth.ChannelData | None, speaker: Speaker) -> Member | None:
    if kind_of(channel) is not ChannelKind.PRESENCE:
        return None
    if said is not None:
        user_id, user_info = said.user_id, said.user_info
    elif speaker.user_id is not None:
        user_id, user_info = speaker.user_id, speaker.user_info
    else:
        raise SubscriptionRefused(channel, 401, "a presence channel needs channel_data")
    return member(channel, user_id, user_info, speaker.app.limits.presence_bytes)

"""One connection's state machine: who it is, what it may hear, when it must be heard from.

Sans-I/O: commands and time go in, effects come out, in the order in which the client must see them.

Authentication comes by ways of different weight (`Way`); a weightier one replaces a lighter one. A
guarded subscribe that arrives before anybody is authenticated is parked, because pusher-js cannot
ask again for a channel that was refused on the same connection; all parked ones are judged, in
order of arrival, as soon as it is known who speaks. Nobody in time: the connection closes with
4102.
"""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from typing import Final, assert_never

from auth import access, user_auth
from auth.access import Refusal
from auth.apps import App
from auth.errors import AuthError
from auth.principal import Principal
from channels_spec.pusher import CloseCode, ErrorCode
from server.protocol import commands, frames
from server.protocol.admission import Speaker, judge, signed_principal
from server.protocol.effects import Close, Effect, Join, Leave, Regroup, Send, VerifyToken
from server.protocol.errors import ProtocolError, SubscriptionRefused
from server.protocol.filters import BadFilter, parse_scope
from server.protocol.rules import Rules
from server.protocol.subscription import Input, State, Subscription

MAX_PARKED: Final = 256
"""Subscribes that wait for authentication; one more closes with 4100."""
MAX_PARKED_BYTES: Final = 256 * 1024
MAX_SUBSCRIPTIONS: Final = 1_000
LATEST_TICK_S: Final = 1.0
"""How late a `tick` may come: what must not happen too late is due that much earlier."""


class Way(IntEnum):
    """How a token came, by weight."""

    NONE = 0
    COOKIE = 1
    QUERY = 2
    PATH = 3
    HEADER = 4
    RENEWAL = 5
    SIGNIN = 6


class Connection:
    """The server's side of one Pusher connection."""

    __slots__ = (
        "_auth_deadline",
        "_heard_at",
        "_parked",
        "_pinged_at",
        "_proven",
        "_rules",
        "_signed_until",
        "_spread",
        "_subscriptions",
        "_token_until",
        "_user_id",
        "_user_info",
        "_way",
        "app",
        "principal",
        "socket_id",
    )

    def __init__(
        self, socket_id: str, app: App, rules: Rules, *, spread: float, now: float
    ) -> None:
        """Create a connection.

        Args:
            socket_id: unique in the cluster.
            app: the app whose key the client connected with.
            rules: the installation's.
            spread: this connection's place, in [0, 1), among those whose tokens end together.
            now: seconds since the epoch, here and in every method.

        """
        self.socket_id = socket_id
        self.app = app
        self.principal: Principal | None = None
        self._rules = rules
        self._spread = spread
        self._way = Way.NONE
        self._user_id: str | None = None
        self._user_info: object | None = None
        self._proven = False
        self._auth_deadline: float | None = now + rules.auth_timeout_s
        self._token_until: float | None = None
        self._signed_until: float | None = None
        """When the first token ends that a signed subscription was made with."""
        self._heard_at = self._pinged_at = now
        self._parked: list[commands.Subscribe] | None = None
        self._subscriptions: dict[str, Subscription] = {}

    # --- opening and authentication --------------------------------------------------------------

    def open(self, principal: Principal | None, way: Way, now: float) -> list[Effect]:
        """Greet the client; ``principal`` where the handshake itself said who speaks."""
        greeting = frames.connection_established(self.socket_id, self._rules.activity_timeout_s)
        effects: list[Effect] = [Send(greeting)]
        if principal is not None:
            effects += self._become(principal, way, now)
        return effects

    def token_verified(self, asked: VerifyToken, principal: Principal, now: float) -> list[Effect]:
        """Continue a `VerifyToken` effect whose token is good."""
        if asked.user_data is None:
            if self.principal is not None and self.principal.sub != principal.sub:
                return [Close(CloseCode.UNAUTHORIZED, "the fresh token is of another subject")]
            renewed = Send(frames.authenticated(principal.exp))
            return [renewed, *self._become(principal, max(self._way, Way.RENEWAL), now)]
        try:
            user = user_auth.parse_user_data(asked.user_data)
        except AuthError as error:
            return [Close(CloseCode.UNAUTHORIZED, error.reason)]
        if user.id != principal.sub:
            reason = "user_data.id differs from the token's subject"
            return [Close(CloseCode.UNAUTHORIZED, reason)]
        # Only the id was held against the token; the rest of user_data is the client's word.
        user = replace(user, user_info={"name": principal.name})
        return self._signed_in(user, asked.user_data, principal, now)

    def token_refused(self, error: AuthError) -> list[Effect]:
        """Continue a `VerifyToken` effect whose token is bad: there is no use in retrying it."""
        return [Close(CloseCode.UNAUTHORIZED, error.reason)]

    # --- input -----------------------------------------------------------------------------------

    def heard(self, now: float) -> None:
        """Note that the client is alive: any frame counts, control frames too."""
        self._heard_at = now

    def receive(self, text: bytes, now: float) -> list[Effect]:
        """Take one text message and return what is to be done."""
        self._heard_at = now
        try:
            return self._obey(commands.parse(text), now)
        except ProtocolError as error:
            return [Send(frames.error(error.code, error.reason, error.channel))]

    def joined(self, channel: str) -> list[Effect]:
        """Continue a `Join` effect: this node listens to the channel now."""
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            return []
        if subscription.apply(Input.JOINED) is State.SUBSCRIBED:
            return [self._succeeded(channel, subscription)]
        # The client left while this node was joining.
        del self._subscriptions[channel]
        return [Leave(channel)]

    def deadline(self) -> float:
        """Return when `tick` must be called next; an earlier call does no harm."""
        due = min(
            self._pinged_at + self._rules.ping_s,
            self._heard_at + self._rules.ping_s + self._rules.pong_timeout_s,
        )
        if self._auth_deadline is not None:
            due = min(due, self._auth_deadline)
        for end in (self._token_until, self._signed_until):
            if end is not None:
                due = min(due, end)
        return due

    def tick(self, now: float) -> list[Effect]:
        """Do what has become due."""
        if any(end is not None and now >= end for end in (self._token_until, self._signed_until)):
            return [Close(CloseCode.TOKEN_EXPIRED, "the token expires: reconnect with a fresh one")]
        if now >= self._heard_at + self._rules.ping_s + self._rules.pong_timeout_s:
            return [Close(CloseCode.NO_PONG, "nothing was heard of the client in time")]
        effects: list[Effect] = []
        if self._auth_deadline is not None and now >= self._auth_deadline:
            self._auth_deadline = None
            if self._rules.require_token and not self._proven:
                return [Close(CloseCode.AUTH_TIMEOUT, "nobody authenticated in time")]
            for parked in self._unpark():
                refusal = frames.subscription_error(
                    parked.channel, 401, "nobody authenticated in time"
                )
                effects.append(Send(refusal))
        if now >= self._pinged_at + self._rules.ping_s:
            self._pinged_at = now
            effects.append(Send(frames.PING))
        return effects

    @property
    def channels(self) -> list[str]:
        """The channels that the fan-out knows of, joining ones included."""
        return list(self._subscriptions)

    # --- commands --------------------------------------------------------------------------------

    def _obey(self, command: commands.Command, now: float) -> list[Effect]:
        match command:
            case commands.Ping():
                return [Send(frames.PONG)]
            case commands.Pong():
                return []
            case commands.Subscribe():
                return self._subscribe(command, now)
            case commands.Unsubscribe():
                return self._unsubscribe(command.channel)
            case commands.Signin():
                return self._signin(command, now)
            case commands.Renew():
                return [VerifyToken(command.token, None)]
            case commands.Filter():
                return self._filter(command)
            case commands.ClientEvent():
                reason = "client events are not enabled on this channel"
                raise ProtocolError(reason, ErrorCode.CLIENT_EVENT_REFUSED, command.channel)
            case _:
                assert_never(command)

    def _subscribe(self, command: commands.Subscribe, now: float) -> list[Effect]:
        known = self._subscriptions.get(command.channel)
        if known is not None and known.state is not State.LEAVING:
            if known.state is State.SUBSCRIBED:
                return [self._succeeded(command.channel, known)]
            return []
        if known is None and len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            reason = f"more than {MAX_SUBSCRIPTIONS} subscriptions on one connection"
            return [Close(CloseCode.OVER_CAPACITY, reason)]
        try:
            admitted = judge(command, self._speaker(), self._rules, now)
        except SubscriptionRefused as refused:
            refusal = frames.subscription_error(refused.channel, refused.status, refused.reason)
            return [Send(refusal)]
        if admitted is None:
            return self._park(command)
        if admitted.expires_at is not None:
            until = self._before(admitted.expires_at, now)
            self._signed_until = min(until, self._signed_until or until)
        self._proven = self._proven or admitted.proven
        subscription = admitted.subscription
        self._subscriptions[command.channel] = subscription
        if known is not None:
            # It has not left yet: the fan-out still holds it, by the right that it had before.
            subscription.state = known.apply(Input.SUBSCRIBE)
            return [Regroup(command.channel, subscription.grant)]
        subscription.apply(Input.SUBSCRIBE)
        return [Join(command.channel, subscription.grant)]

    def _speaker(self) -> Speaker:
        return Speaker(
            app=self.app,
            socket_id=self.socket_id,
            principal=self.principal,
            user_id=self._user_id,
            user_info=self._user_info,
            may_yet_authenticate=self._auth_deadline is not None,
        )

    def _unsubscribe(self, channel: str) -> list[Effect]:
        if self._parked:
            self._parked = [parked for parked in self._parked if parked.channel != channel]
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            return []
        if subscription.apply(Input.UNSUBSCRIBE) is State.ABSENT:
            del self._subscriptions[channel]
            return [Leave(channel)]
        return []

    def _filter(self, command: commands.Filter) -> list[Effect]:
        channel, subscription = command.channel, self._subscriptions.get(command.channel)
        if subscription is None or subscription.state is State.LEAVING:
            return [Send(frames.filter_error(channel, "the channel is not subscribed to"))]
        if self._rules.contract.match(channel) is None:
            return [Send(frames.filter_error(channel, "the channel is not in the contract"))]
        try:
            scope = parse_scope(command.scope)
        except BadFilter as error:
            return [Send(frames.filter_error(channel, str(error)))]
        subscription.grant = replace(subscription.grant, scope=scope)
        return [Regroup(channel, subscription.grant), Send(frames.filter_ok(channel))]

    def _signin(self, command: commands.Signin, now: float) -> list[Effect]:
        if user_auth.looks_like_jwt(command.auth):
            return [VerifyToken(command.auth, command.user_data)]
        try:
            user_auth.verify_user(self.app, self.socket_id, command.auth, command.user_data)
            user = user_auth.parse_user_data(command.user_data)
            principal = signed_principal(user.id, user.bellhop, now)
        except AuthError as error:
            return [Close(CloseCode.UNAUTHORIZED, f"signin: {error.reason}")]
        return self._signed_in(user, command.user_data, principal, now)

    # --- authentication --------------------------------------------------------------------------

    def _signed_in(
        self, user: user_auth.UserData, user_data: str, principal: Principal | None, now: float
    ) -> list[Effect]:
        if self._user_id is not None and self._user_id != user.id:
            reason = "the connection is signed in as another user"
            return [Close(CloseCode.UNAUTHORIZED, reason)]
        self._user_id, self._user_info = user.id, user.user_info
        effects: list[Effect] = [Send(frames.signin_success(user_data))]
        if principal is not None:
            return effects + self._become(principal, Way.SIGNIN, now)
        return effects + self._admitted(now)

    def _become(self, principal: Principal, way: Way, now: float) -> list[Effect]:
        """Take ``principal`` as the one who speaks, and judge everything anew by it."""
        if way < self._way:
            return []
        self.principal, self._way = principal, way
        self._token_until = self._before(principal.exp, now)
        effects: list[Effect] = []
        for channel, subscription in list(self._subscriptions.items()):
            effects += self._rejudge(channel, subscription, principal)
        return effects + self._admitted(now)

    def _admitted(self, now: float) -> list[Effect]:
        """Release what waited for authentication, in order of arrival."""
        self._proven = True
        self._auth_deadline = None
        effects: list[Effect] = []
        for parked in self._unpark():
            effects += self._subscribe(parked, now)
            if effects and isinstance(effects[-1], Close):
                break
        return effects

    def _rejudge(
        self, channel: str, subscription: Subscription, principal: Principal
    ) -> list[Effect]:
        match = self._rules.contract.match(channel)
        leaving = subscription.state is State.LEAVING
        if match is None or leaving or not subscription.by_principal:
            return []
        decision = access.decide(principal, match)
        if isinstance(decision, Refusal):
            refusal = frames.subscription_error(channel, decision.status, decision.reason)
            return [*self._unsubscribe(channel), Send(refusal)]
        decision = replace(decision, scope=subscription.grant.scope)
        if decision == subscription.grant:
            return []
        subscription.grant = decision
        return [Regroup(channel, decision)]

    def _before(self, exp: float, now: float) -> float:
        """Return when to close for a token: before its end, those of one minute spread."""
        spread = min(self._rules.expiry_spread_s, max(exp - now, 0.0) / 2)
        return exp - LATEST_TICK_S - self._spread * spread

    # --- parking ---------------------------------------------------------------------------------

    def _park(self, command: commands.Subscribe) -> list[Effect]:
        parked = self._parked if self._parked is not None else []
        self._parked = parked
        if all(waiting.channel != command.channel for waiting in parked):
            parked.append(command)
        size = sum(
            len(waiting.channel) + len(waiting.auth) + len(waiting.channel_data or "")
            for waiting in parked
        )
        if len(parked) > MAX_PARKED or size > MAX_PARKED_BYTES:
            reason = "too many subscribes before anybody authenticated"
            return [Close(CloseCode.OVER_CAPACITY, reason)]
        return []

    def _unpark(self) -> list[commands.Subscribe]:
        parked, self._parked = self._parked or [], None
        return parked

    def _succeeded(self, channel: str, subscription: Subscription) -> Send:
        member = subscription.member
        roster = member.roster() if member is not None else None
        return Send(frames.subscription_succeeded(channel, roster))

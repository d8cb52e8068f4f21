"""One connection's state machine: who it is, what it may hear, when it must be heard from.

Sans-I/O: commands and time go in, effects come out, in the order in which the client must see them.

Authentication comes by ways of different weight (`Way`); a weightier one replaces a lighter one.
Subscribes that wait for it are parked (`Subscriptions`). Nobody in time: the connection closes with
4102.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, assert_never

from auth import user_auth
from auth.apps import App
from auth.errors import AuthError, KeysUnavailable
from auth.principal import Principal
from channels_spec.pusher import CloseCode, ErrorCode
from server.protocol import commands, frames
from server.protocol.admission import Speaker, signed_principal
from server.protocol.effects import Close, Effect, Refuse, Send, SignedIn, VerifyToken
from server.protocol.errors import ProtocolError
from server.protocol.expiry import Expiry
from server.protocol.identity import identity
from server.protocol.presence import Entered, Past
from server.protocol.proofs import Proofs
from server.protocol.rate_limit import TokenBucket
from server.protocol.rules import Rules
from server.protocol.subscription import Subscription
from server.protocol.subscriptions import Subscriptions, Verdict
from server.protocol.way import Way

_EXPIRES: Final = Close(CloseCode.TOKEN_EXPIRED, "the token expires: reconnect with a fresh one")
_REVOKED: Final = Close(CloseCode.UNAUTHORIZED, "the token was revoked")
_NOTHING: Final = Past()


class Connection:
    """The server's side of one Pusher connection."""

    __slots__ = (
        "_auth_deadline",
        "_bearer",
        "_client_events",
        "_expiry",
        "_heard_at",
        "_pinged_at",
        "_proven",
        "_rules",
        "_subscriptions",
        "_user_id",
        "_user_info",
        "_way",
        "app",
        "instance",
        "principal",
        "proofs",
        "socket_id",
    )

    def __init__(
        self,
        socket_id: str,
        app: App,
        rules: Rules,
        *,
        spread: float,
        now: float,
        instance: str | None = None,
    ) -> None:
        """Create a connection.

        Args:
            socket_id: unique in the cluster.
            app: the app whose key the client connected with.
            rules: the installation's.
            spread: this connection's place, in [0, 1), among those whose tokens end together.
            now: seconds since the epoch, here and in every method.
            instance: drawn once per page load (`/s/{instance}`), where the client says it.

        """
        self.socket_id = socket_id
        self.app = app
        self.principal: Principal | None = None
        """Who speaks, with the rights that are left."""
        self._bearer: Principal | None = None
        """The same as the token says it."""
        self._rules = rules
        self._way = Way.NONE
        self._user_id: str | None = None
        self._user_info: object | None = None
        self._proven = False
        self._auth_deadline: float | None = now + rules.auth_timeout_s
        self._expiry = Expiry(spread, rules.expiry_spread_s)
        self._heard_at = self._pinged_at = now
        self._client_events: TokenBucket | None = None
        self.proofs = Proofs()
        self.instance = instance
        self._subscriptions = Subscriptions(app, rules)

    # --- opening and authentication --------------------------------------------------------------

    def open(self, principal: Principal | None, way: Way, now: float) -> list[Effect]:
        """Greet the client; ``principal`` where the handshake itself said who speaks."""
        greeting = frames.connection_established(self.socket_id, self._rules.activity_timeout_s)
        effects: list[Effect] = [Send(greeting)]
        if principal is not None:
            effects += self._become(principal, way, now)
        return effects

    def recognized(self, principal: Principal, way: Way, now: float) -> list[Effect]:
        """Continue an opening whose token needed a key to be fetched: it is good."""
        return self._known(self.identity, self._become(principal, way, now))

    def token_verified(self, asked: VerifyToken, principal: Principal, now: float) -> list[Effect]:
        """Continue a `VerifyToken` effect whose token is good."""
        if asked.user_data is None:
            if self.principal is not None and self.principal.sub != principal.sub:
                return [Close(CloseCode.UNAUTHORIZED, "the fresh token is of another subject")]
            renewed = Send(frames.authenticated(principal.exp))
            way = max(self._way, Way.RENEWAL)
            return [renewed, *self._known(self.identity, self._become(principal, way, now))]
        try:
            user = user_auth.parse_user_data(asked.user_data)
        except AuthError as error:
            return [Close(CloseCode.UNAUTHORIZED, error.reason)]
        if user.id != principal.sub:
            reason = "user_data.id differs from the token's subject"
            return [Close(CloseCode.UNAUTHORIZED, reason)]
        # Only the id was held against the token; the rest of user_data is the client's word.
        user = replace(user, user_info={"name": principal.name}, watchlist=())
        return self._signed_in(user, asked.user_data, principal, now)

    def token_refused(self, error: AuthError) -> list[Effect]:
        """Continue a `VerifyToken` effect, or an opening, whose token is bad.

        There is no use in retrying it, unless its key could not be had.
        """
        if isinstance(error, KeysUnavailable):
            return [Close(CloseCode.OVER_CAPACITY, error.reason)]
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
        return self._subscriptions.joined(channel)

    def authorized(
        self, channel: str, subscription: Subscription, verdict: Verdict, now: float
    ) -> list[Effect]:
        """Continue an `AskBackend` effect."""
        return self._subscriptions.authorized(channel, subscription, verdict, now)

    def entered(
        self, channel: str, subscription: Subscription, entered: Entered, past: Past = _NOTHING
    ) -> list[Effect]:
        """Continue an `Enter` effect: the broker has let the subscriber in."""
        return self._subscriptions.entered(channel, subscription, entered, past)

    def refresh(self, channel: str) -> list[Effect]:
        """Have the client told anew who is on a presence channel."""
        return self._subscriptions.refresh(channel)

    def refused(self, channel: str, subscription: Subscription, reason: str) -> list[Effect]:
        """Continue an `Enter` effect: the broker has not."""
        return self._subscriptions.refused(channel, subscription, reason)

    def deadline(self) -> float:
        """Return when `tick` must be called next; an earlier call does no harm."""
        due = min(
            self._pinged_at + self._rules.ping_s,
            self._heard_at + self._rules.ping_s + self._rules.pong_timeout_s,
            self._expiry.due,
        )
        for at in (self._auth_deadline, self._subscriptions.ask_at):
            if at is not None:
                due = min(due, at)
        return due

    def tick(self, now: float, heard_until: float | None = None) -> list[Effect]:
        """Do what has become due.

        ``heard_until``: what was published before has been sent to the client; ``None``: by now.
        """
        if self._expiry.has_come(now):
            return [_EXPIRES]
        if now >= self._heard_at + self._rules.ping_s + self._rules.pong_timeout_s:
            return [Close(CloseCode.NO_PONG, "nothing was heard of the client in time")]
        effects = self._subscriptions.ask_again(self._speaker(), now)
        if self._bearer is not None and self._expiry.warns(now):
            effects.append(Send(frames.token_expiring(self._bearer.exp)))
        if self._auth_deadline is not None and now >= self._auth_deadline:
            self._auth_deadline = None
            if self._rules.require_token and not self._proven:
                return [Close(CloseCode.AUTH_TIMEOUT, "nobody authenticated in time")]
            for parked in self._subscriptions.unpark():
                effects.append(Refuse(parked.channel, 401, "nobody authenticated in time"))
        if now >= self._pinged_at + self._rules.ping_s:
            effects += self._ping(now, heard_until)
        return effects

    def _ping(self, now: float, heard_until: float | None) -> list[Effect]:
        """Ask for a pong: it proves that all that was sent before has arrived."""
        self._pinged_at = now
        until = now if heard_until is None else min(now, heard_until)
        # What a channel holds back for it stands behind this ping.
        self.proofs.pinged(None if self._subscriptions.entering else until)
        return [Send(frames.PING)]

    def probe(self, now: float, heard_until: float | None = None) -> list[Effect]:
        """Have the client answer a ping: one that is under way already does."""
        return [] if self.proofs.under_way else self._ping(now, heard_until)

    @property
    def channels(self) -> list[str]:
        """The channels that the fan-out knows of, joining ones included."""
        return self._subscriptions.channels

    @property
    def user_id(self) -> str | None:
        """The signed-in user, or whom the token names."""
        if self._user_id is not None or self.principal is None:
            return self._user_id
        return self.principal.sub

    def is_of(self, user_id: str) -> bool:
        """Whether the user signed in here, or is whom the token names: these may be two."""
        sub = self.principal.sub if self.principal is not None else None
        return user_id in (self._user_id, sub)

    @property
    def identity(self) -> str | None:
        """Which device this is, so that it can take up what it missed; ``None``: not known."""
        return identity(self.instance, self.principal, self.user_id)

    # --- commands --------------------------------------------------------------------------------

    def _obey(self, command: commands.Command, now: float) -> list[Effect]:
        match command:
            case commands.Ping():
                return [Send(frames.PONG)]
            case commands.Pong():
                self.proofs.pong()
                return []
            case commands.Subscribe():
                return self._subscribe(command, now)
            case commands.Unsubscribe():
                return self._subscriptions.unsubscribe(command.channel)
            case commands.Signin():
                return self._signin(command, now)
            case commands.Renew():
                return [VerifyToken(command.token, None)]
            case commands.Resume():
                return self._subscriptions.resume(command)
            case commands.Filter():
                return self._subscriptions.narrow(command)
            case commands.ClientEvent():
                return self._client_event(command, now)
            case _:
                assert_never(command)

    def _subscribe(self, command: commands.Subscribe, now: float) -> list[Effect]:
        asked = self._subscriptions.subscribe(command, self._speaker(), now)
        if asked.expires_at is not None:
            self._expiry.signed(asked.expires_at, now)
        self._proven = self._proven or asked.proven
        return asked.effects

    def _speaker(self) -> Speaker:
        return Speaker(
            app=self.app,
            socket_id=self.socket_id,
            principal=self.principal,
            user_id=self._user_id,
            user_info=self._user_info,
            may_yet_authenticate=self._auth_deadline is not None,
        )

    def _client_event(self, command: commands.ClientEvent, now: float) -> list[Effect]:
        relay = self._subscriptions.relay(command)
        limit = self.app.limits.client_events_per_s
        if self._client_events is None:
            self._client_events = TokenBucket(limit, now)
        if not self._client_events.take(now):
            reason = f"more than {limit} client events a second"
            raise ProtocolError(reason, ErrorCode.CLIENT_EVENT_REFUSED, command.channel)
        return [relay]

    def _signin(self, command: commands.Signin, now: float) -> list[Effect]:
        if user_auth.looks_like_jwt(command.auth):
            return [VerifyToken(command.auth, command.user_data)]
        try:
            user_auth.verify_user(self.app, self.socket_id, command.auth, command.user_data)
            user = user_auth.parse_signed_user(command.user_data)
            principal = signed_principal(user.id, user.bellhop, now)
        except AuthError as error:
            return [Close(CloseCode.UNAUTHORIZED, f"signin: {error.reason}")]
        if principal is not None and self._rules.revocations.curtail(principal, now) is None:
            return [_REVOKED]
        return self._signed_in(user, command.user_data, principal, now)

    # --- authentication --------------------------------------------------------------------------

    def _signed_in(
        self, user: user_auth.UserData, user_data: str, principal: Principal | None, now: float
    ) -> list[Effect]:
        if self._user_id is not None and self._user_id != user.id:
            reason = "the connection is signed in as another user"
            return [Close(CloseCode.UNAUTHORIZED, reason)]
        before = self.identity
        self._user_id, self._user_info = user.id, user.user_info
        effects: list[Effect] = [Send(frames.signin_success(user_data))]
        limit = self.app.limits.watchlist
        if len(user.watchlist) > limit:
            reason = f"the watchlist has more than {limit} users; the first ones are watched"
            effects.append(Send(frames.error(ErrorCode.WATCHLIST_TOO_LONG, reason)))
        watchlist = tuple(dict.fromkeys(user.watchlist[:limit]))
        effects.append(SignedIn(user.id, watchlist))
        if principal is not None:
            effects += self._become(principal, Way.SIGNIN, now)
        else:
            effects += self._admitted(now)
        return self._known(before, effects)

    def _become(self, principal: Principal, way: Way, now: float) -> list[Effect]:
        """Take ``principal`` as the one who speaks, and judge everything anew by it."""
        if way < self._way:
            return []
        left = self._rules.revocations.curtail(principal, now)
        if left is None:
            return [_REVOKED]
        self.principal, self._bearer, self._way = left, principal, way
        if not self._expiry.replace(principal.exp, now):
            return [_EXPIRES]
        return self._subscriptions.rejudge(self._speaker(), now) + self._admitted(now)

    def revoked(self, now: float) -> list[Effect]:
        """Judge everything anew: what is revoked has changed."""
        if self._bearer is not None:
            left = self._rules.revocations.curtail(self._bearer, now)
            if left is None:
                return [_REVOKED]
            self.principal = left
        return self._subscriptions.rejudge(self._speaker(), now)

    def _admitted(self, now: float) -> list[Effect]:
        """Release what waited for authentication, in order of arrival."""
        self._proven = True
        self._auth_deadline = None
        effects: list[Effect] = []
        for parked in self._subscriptions.unpark():
            effects += self._subscribe(parked, now)
        return effects

    def _known(self, before: str | None, effects: list[Effect]) -> list[Effect]:
        """Look for what was missed once more where the client turns out to be somebody else.

        pusher-js subscribes as soon as it is back, and signs in when its endpoint has answered.
        """
        return effects if self.identity == before else effects + self.recall()

    def recall(self, channel: str | None = None) -> list[Effect]:
        """Look for what was missed of a channel before it was entered; ``None``: of all."""
        known_as = self.identity
        return self._subscriptions.recall(known_as, channel) if known_as is not None else []

    def recalled(self, channel: str, subscription: Subscription, past: Past) -> list[Effect]:
        """Continue a `Recall` effect for one of its channels."""
        return self._subscriptions.recalled(channel, subscription, past)

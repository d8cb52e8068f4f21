"""One live client on any transport: runs the connection's core and carries out its effects."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Final, assert_never

import structlog

from auth.apps import App, WebhookKind
from auth.errors import AuthError, UnknownKey
from auth.principal import Principal
from channels_spec.pusher import CloseCode
from server.arrival import recall
from server.outbox import Outbox
from server.protocol import frames
from server.protocol.connection import Connection
from server.protocol.effects import (
    Admit,
    AskBackend,
    Close,
    Effect,
    Enter,
    Join,
    Leave,
    MissedCache,
    Recall,
    Refuse,
    Regroup,
    Relay,
    Replay,
    Send,
    SignedIn,
    VerifyToken,
)
from server.protocol.presence import Entered, Past
from server.protocol.subscription import Subscription
from server.protocol.subscriptions import Verdict
from server.protocol.way import Way
from server.subscribing import ask_backend, carry_out, leave
from server.surroundings import Surroundings, Transport
from server.users import Watchlist

_GOING_AWAY: Final = 1001
"""The close code of a page that is left, and the only goodbye: pusher-js ends what it means to
reconnect as cleanly as what it does not."""

_MAX_KEYS_AWAITED: Final = 2
"""Tokens of one client that wait for keys: that of its handshake, and one more."""

log = structlog.get_logger()


class Session:
    """A connection's core, its outbox and its wire."""

    __slots__ = (
        "_around",
        "_closed",
        "_connection",
        "_fault",
        "_keys_awaited",
        "_opened_at",
        "_received",
        "_transport",
        "_user_id",
        "_watchlist",
        "due",
        "outbox",
    )

    def __init__(
        self, transport: Transport, app: App, around: Surroundings, instance: str | None = None
    ) -> None:
        """Create a session; `open` greets the client. ``instance`` is of `/s/{instance}`."""
        now = around.clock()
        # The two random numbers that real servers send; guessing one gives no right to anything.
        socket_id = f"{random.getrandbits(33)}.{random.getrandbits(33)}"
        spread = random.random()  # noqa: S311  jitter
        self._around = around
        self._connection = Connection(
            socket_id, app, around.rules, spread=spread, now=now, instance=instance
        )
        self._transport = transport
        self._opened_at = now
        self._received = 0
        self._closed = False
        self._keys_awaited = 0
        self._fault: tuple[int, str] | None = None
        self._user_id: str | None = None
        self._watchlist: Watchlist | None = None
        self.due = 0
        self.outbox = Outbox(transport.wire)

    @property
    def socket_id(self) -> str:
        """The client's socket id."""
        return self._connection.socket_id

    @property
    def app_id(self) -> str:
        """The app that it is connected to."""
        return self._connection.app.id

    @property
    def identity(self) -> str | None:
        """Which device it is, if that is known."""
        return self._connection.identity

    @property
    def proven_at(self) -> float | None:
        """Until when the client has got everything, as far as that is proven."""
        return self._connection.proofs.until

    @property
    def channels(self) -> list[str]:
        """The channels that it has, or is about to have."""
        return self._connection.channels

    @property
    def user_id(self) -> str | None:
        """The signed-in user, or whom the token names."""
        return self._connection.user_id

    def is_of(self, user_id: str) -> bool:
        """Whether it is this user's, by signin or by its token."""
        return self._connection.is_of(user_id)

    @property
    def principal(self) -> Principal | None:
        """Who speaks, where that is known."""
        return self._connection.principal

    def open(self, principal: Principal | None, way: Way, token: str | None = None) -> None:
        """Register the session and greet the client; ``token`` is one whose key is not known."""
        now = self._around.clock()
        self._around.hub.opened(self)
        self._apply(self._connection.open(principal, way, now))
        self._set_timer()
        log.info("connection.opened", socket_id=self.socket_id, app=self._connection.app.id)
        self._around.audit.opened(self, way.name.lower())
        if token is not None:
            self._verify_later(token, partial(self._recognized, way))

    def heard(self) -> None:
        """Note a control frame from the client."""
        self._connection.heard(self._around.clock())

    def receive(self, text: bytes) -> None:
        """Take one text message from the client."""
        if self._closed:
            return
        self._received += 1
        answered = self._connection.proofs.answered
        try:
            self._apply(self._connection.receive(text, self._around.clock()))
            if self._connection.proofs.answered != answered:
                self._around.resuming.proved(self)
        except Exception:
            log.exception("connection.failed", socket_id=self.socket_id)
            self.end(CloseCode.INTERNAL_ERROR, "the server failed on this message")
        # What it said may have brought a deadline nearer: its token's end, for one.
        self._set_timer()

    def joined(self, channel: str) -> None:
        """Learn from the hub that this node listens to the channel."""
        self._apply(self._connection.joined(channel))

    def entered(
        self, channel: str, subscription: Subscription, entered: Entered, past: Past
    ) -> None:
        """Learn that the broker has let a subscription in, and what it had missed."""
        effects = self._connection.entered(channel, subscription, entered, past)
        if any(isinstance(effect, Admit) for effect in effects):
            self._around.audit.subscribed(self, channel, subscription)
        self._apply(effects)

    def recalled(self, channel: str, subscription: Subscription, past: Past) -> None:
        """Learn what a subscription had missed that was let in before."""
        self._apply(self._connection.recalled(channel, subscription, past))

    def recall(self, channel: str) -> None:
        """Learn that its identity changed while it was found out what it had missed."""
        if not self._closed:
            self._apply(self._connection.recall(channel))

    def probe(self) -> None:
        """Have the client answer a ping: somebody wants to know whether it lives."""
        if not self._closed:
            hub = self._around.hub
            self._apply(self._connection.probe(self._around.clock(), hub.heard_until))

    def authorized(self, asked: AskBackend, verdict: Verdict) -> None:
        """Learn what the backend says of a subscription."""
        if self._closed:
            return
        now = self._around.clock()
        self._apply(self._connection.authorized(asked.channel, asked.subscription, verdict, now))
        self._set_timer()

    def not_entered(self, channel: str, subscription: Subscription, reason: str) -> None:
        """Learn that the broker has refused a subscription."""
        self._apply(self._connection.refused(channel, subscription, reason))

    def refresh(self, channel: str) -> None:
        """Learn that members of the channel may have come and gone unheard."""
        if not self._closed:
            self._apply(self._connection.refresh(channel))

    def revoked(self) -> None:
        """Learn that what is revoked has changed."""
        if not self._closed:
            self._apply(self._connection.revoked(self._around.clock()))

    def watched_users(self, online: list[str], offline: list[str]) -> None:
        """Tell the client of the users that it watches."""
        self._apply([Send(frames.watchlist_events(online, offline))])

    def tick(self, now: float) -> float | None:
        """Do what is due; the wheel calls it."""
        if self._closed:
            return None
        self._apply(self._connection.tick(now, self._around.hub.heard_until))
        return self._connection.deadline()

    def fell_behind(self) -> None:
        """End a slow consumer."""
        self.end(CloseCode.OVER_CAPACITY, "slow consumer: too much waits to be read")

    def end(self, code: CloseCode, reason: str) -> None:
        """Tell the client why, then close with the code; what still waits for it is dropped."""
        if self._closed:
            return
        self._fault = (code, reason)
        self._leave_all(goodbye=False)
        self.outbox.close()
        self._transport.wire.write(self._transport.encode(frames.error(code, reason)))
        self._transport.close(code, reason)

    def lost(self, code: int | None) -> None:
        """Learn that the wire is gone; ``code`` is the client's close code, if it sent one."""
        self._leave_all(goodbye=code == _GOING_AWAY)
        self.outbox.close()
        by = "server" if self._fault else "client"
        ended_by, why = self._fault or (code, "the client left")
        self._around.audit.ended(self, ended_by, why, by)
        log.info(
            "connection.closed",
            socket_id=self.socket_id,
            app=self._connection.app.id,
            sub=self.principal.sub if self.principal is not None else None,
            seconds=round(self._around.clock() - self._opened_at, 1),
            received=self._received,
            code=ended_by,
            cause=why,
            by=by,
        )

    def _leave_all(self, *, goodbye: bool) -> None:
        if self._closed:
            return
        self._closed = True
        self._around.resuming.ended(self, self._connection.channels, goodbye=goodbye)
        # Leaving writes what a channel has gathered: the hub must still know whom to leave out.
        for channel in self._connection.channels:
            leave(channel, self, self._around)
        self._around.hub.closed(self)
        if self._user_id is not None:
            self._around.users.left(self.app_id, self._user_id, self.socket_id)
        if self._watchlist is not None:
            self._around.users.unwatch(self.app_id, self._watchlist)

    def _set_timer(self) -> None:
        """Have `tick` called in time; what is due already is done now."""
        now, due = self._around.clock(), self._connection.deadline()
        if due <= now and not self._closed:
            self._apply(self._connection.tick(now, self._around.hub.heard_until))
            due = self._connection.deadline()
        self._around.wheel.schedule(self, due)

    # --- effects ---------------------------------------------------------------------------------

    def _apply(self, effects: list[Effect]) -> None:
        if len(effects) > 1:
            effects = self._sent_at_once(effects)
        for effect in effects:
            if self._closed:
                return
            match effect:
                case Send(frame):
                    if not self.outbox.send(self._transport.encode(frame)):
                        self.fell_behind()
                case Refuse(channel, status, reason):
                    self._around.audit.refused(self, effect)
                    self._apply([Send(frames.subscription_error(channel, status, reason))])
                case Replay(missed):
                    self.outbox.owe(b"".join(map(self._transport.encode, missed)))
                case AskBackend():
                    ask_backend(effect, self._connection.app, self, self._around)
                case Join() | Enter() | Admit() | Regroup() | Leave():
                    carry_out(effect, self, self._around)
                case Recall():
                    recall(self, effect, self._around.hub, self._around.resuming)
                case SignedIn():
                    self._sign_in(effect)
                case Relay():
                    self._around.relayer.relay(self._connection.app, self.socket_id, effect)
                case MissedCache(channel):
                    self._around.notify(self.app_id, WebhookKind.CACHE_MISS, channel)
                case VerifyToken():
                    self._verify(effect)
                case Close(code, reason):
                    self.end(code, reason)
                case _:
                    assert_never(effect)

    def _sent_at_once(self, effects: list[Effect]) -> list[Effect]:
        """Write the frames that these begin with as one piece; return the other effects.

        Where the client is behind, nothing is written, and they are all returned.
        """
        pieces: list[bytes] = []
        count = 0
        for effect in effects:
            if isinstance(effect, Send):
                pieces.append(self._transport.encode(effect.frame))
            elif isinstance(effect, Replay):
                pieces += map(self._transport.encode, effect.frames)
            else:
                break
            count += 1
        if count > 1 and self.outbox.take(b"".join(pieces)):
            return effects[count:]
        return effects

    def _sign_in(self, signed_in: SignedIn) -> None:
        users = self._around.users
        self._around.audit.authenticated(self, "signin")
        if self._user_id is None:
            self._user_id = signed_in.user_id
            users.signed_in(self.app_id, self._user_id, self.socket_id)
        self._watchlist = users.watch(self.app_id, signed_in.watchlist, self, self._watchlist)

    # --- tokens ----------------------------------------------------------------------------------

    def _verify(self, asked: VerifyToken) -> None:
        try:
            principal = self._around.verifier.verify(asked.token, self._around.clock())
        except UnknownKey:
            self._verify_later(asked.token, partial(self._verified, asked))
        except AuthError as error:
            self._verified(asked, error)
        else:
            self._verified(asked, principal)

    def _verify_later(self, token: str, then: Callable[[Principal | AuthError], None]) -> None:
        if self._keys_awaited >= _MAX_KEYS_AWAITED:
            self.end(CloseCode.OVER_CAPACITY, "too many tokens whose keys are not known")
            return
        self._keys_awaited += 1
        self._around.verifier.verify_later(token, partial(self._key_came, then))

    def _key_came(
        self, then: Callable[[Principal | AuthError], None], outcome: Principal | AuthError
    ) -> None:
        self._keys_awaited -= 1
        if self._closed:
            return
        try:
            then(outcome)
        except Exception:
            log.exception("connection.failed", socket_id=self.socket_id)
            self.end(CloseCode.INTERNAL_ERROR, "the server failed on this token")
        self._set_timer()

    def _verified(self, asked: VerifyToken, outcome: Principal | AuthError) -> None:
        if isinstance(outcome, AuthError):
            self._around.audit.token_refused(self, outcome.reason)
            self._apply(self._connection.token_refused(outcome))
            return
        now = self._around.clock()
        self._apply(self._connection.token_verified(asked, outcome, now))
        if asked.user_data is None and not self._closed:
            self._around.audit.authenticated(self, "renewal")

    def _recognized(self, way: Way, outcome: Principal | AuthError) -> None:
        if isinstance(outcome, Principal):
            self._apply(self._connection.recognized(outcome, way, self._around.clock()))
            self._around.audit.authenticated(self, way.name.lower())
        elif way is not Way.COOKIE:
            # A stale cookie is nobody's decision: the page may still sign in.
            self._around.audit.token_refused(self, outcome.reason)
            self._apply(self._connection.token_refused(outcome))

"""A connection's subscriptions: asked for, parked, judged, entered, narrowed, judged anew, left.

A guarded subscribe that arrives before anybody is authenticated is parked, because pusher-js cannot
ask again for a channel that was refused on the same connection; all parked ones are judged, in
order of arrival, as soon as it is known who speaks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from auth import access
from auth.access import Refusal
from auth.apps import App
from auth.principal import Principal
from channels_spec.contract import ChannelMatch
from channels_spec.pusher import CloseCode, Event, is_cache_channel
from server.protocol import client_events, commands, frames
from server.protocol.admission import Speaker, by_right_of, judge
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
)
from server.protocol.errors import SubscriptionRefused
from server.protocol.filters import BadFilter, parse_scope
from server.protocol.parking import Parking
from server.protocol.presence import Entered, Past
from server.protocol.rules import Rules
from server.protocol.subscription import Input, State, Subscription

_ASK_AGAIN_S: Final = 5.0
"""Seconds between two questions to the backend about one subscription, at least."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the backend says of a subscription."""

    allowed: bool
    reason: str = ""
    ttl_s: float | None = None
    """When it wants to be asked again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a subscribe."""

    effects: list[Effect]
    proven: bool = False
    """A signature proved that the client is known, so that the connection may stay."""
    expires_at: float | None = None
    """When the signed token behind it ends."""


class Subscriptions:
    """The subscription table of one connection, and what is parked before it."""

    __slots__ = ("_app", "_ask_at", "_lost", "_parked", "_resume", "_rules", "_table")

    def __init__(self, app: App, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        self._parked = Parking()
        self._table: dict[str, Subscription] = {}
        self._lost: dict[str, commands.Subscribe] = {}
        """Subscriptions whose right has ended while the connection lives: it may return."""
        self._ask_at: dict[str, float] = {}
        self._resume: dict[str, commands.Resume] = {}
        """From where on the client itself wants what it missed."""

    @property
    def channels(self) -> list[str]:
        """The channels that the fan-out knows of, those on their way in included."""
        return list(self._table)

    @property
    def entering(self) -> bool:
        """Whether events are held back for a subscription that the broker is letting in."""
        held_back = (State.ENTERING, State.RETURNING)
        return any(each.state in held_back for each in self._table.values())

    # --- getting in ------------------------------------------------------------------------------

    def subscribe(self, command: commands.Subscribe, speaker: Speaker, now: float) -> Asked:
        """Judge a subscribe, or park it; a repeated one is confirmed again."""
        channel = command.channel
        known = self._table.get(channel)
        if known is not None:
            return Asked(self._repeated(channel, known))
        limit = self._app.limits.max_subscriptions
        try:
            if len(self._table) >= limit:
                # A close would bring pusher-js back with the same channels, every second.
                reason = f"more than {limit} subscriptions on one connection"
                raise SubscriptionRefused(channel, 403, reason)
            admitted = judge(command, speaker, self._rules, now)
        except SubscriptionRefused as refused:
            # The client was told no: what it asked before must not bring a yes.
            self._parked.drop(channel)
            return Asked([_refused(refused)])
        if admitted is None:
            if self._parked.add(command):
                return Asked([])
            reason = "too many subscribes before anybody authenticated"
            return Asked([Close(CloseCode.OVER_CAPACITY, reason)])
        self._lost.pop(channel, None)
        entering = self._join(channel, admitted.subscription)
        return Asked([entering], admitted.proven, admitted.expires_at)

    def authorized(
        self, channel: str, subscription: Subscription, verdict: Verdict, now: float
    ) -> list[Effect]:
        """Continue an `AskBackend` effect."""
        if self._table.get(channel) is not subscription:
            return []
        if verdict.allowed:
            if verdict.ttl_s is not None:
                self._ask_at[channel] = now + max(verdict.ttl_s, _ASK_AGAIN_S)
            if subscription.state is not State.ASKING:
                return []
            subscription.apply(Input.SUBSCRIBE)
            return [Join(channel, subscription.grant)]
        refused = SubscriptionRefused(channel, 403, verdict.reason)
        if subscription.state is State.ASKING:
            return [*self.unsubscribe(channel), _refused(refused)]
        # It was live: the right may return, as after an outage of the backend.
        signed = subscription.signed
        effects = self._lose(signed[1] if signed else commands.Subscribe(channel), refused)
        self._ask_at[channel] = now + _ASK_AGAIN_S
        return effects

    @property
    def ask_at(self) -> float | None:
        """When the backend must be asked again."""
        return min(self._ask_at.values()) if self._ask_at else None

    def ask_again(self, speaker: Speaker, now: float) -> list[Effect]:
        """Ask the backend again about every subscription for which that is due."""
        effects: list[Effect] = []
        for channel in [channel for channel, at in self._ask_at.items() if at <= now]:
            del self._ask_at[channel]
            known = self._table.get(channel)
            if known is not None:
                effects.append(AskBackend(channel, known))
            else:
                effects += self._regained(self._lost[channel], speaker, now)
        return effects

    def joined(self, channel: str) -> list[Effect]:
        """Continue a `Join` effect: this node listens to the channel now."""
        subscription = self._table.get(channel)
        if subscription is None or subscription.state is not State.JOINING:
            return []
        subscription.apply(Input.JOINED)
        after = self._resume.pop(channel, None)
        if after is not None:
            subscription.told_ms = 0
        return [Enter(channel, subscription, after)]

    def entered(
        self, channel: str, subscription: Subscription, entered: Entered, past: Past
    ) -> list[Effect]:
        """Continue an `Enter` effect: confirm, replay what was missed, let the subscriber hear."""
        if self._table.get(channel) is not subscription:
            # The client has left meanwhile.
            return []
        effects: list[Effect] = [self._succeeded(channel, subscription, entered)]
        if subscription.is_in:
            return effects
        subscription.apply(Input.ENTERED)
        sends_cached = entered.cached is not None and not past.frames
        subscription.enter(entered, past, got_cached=sends_cached)
        effects += _missed(channel, past)
        if past.frames:
            return [*effects, Admit(channel, entered)]
        if entered.cached is not None:
            effects.append(Send(entered.cached))
        elif is_cache_channel(channel):
            effects += (Send(frames.cache_miss(channel)), MissedCache(channel))
        return [*effects, Admit(channel, entered)]

    def recall(self, identity: str, only: str | None = None) -> list[Effect]:
        """Have the broker asked what the client missed on what it has, now that it is known."""
        recalled = tuple(
            (channel, subscription)
            for channel, subscription in self._table.items()
            if subscription.state is State.SUBSCRIBED and only in {None, channel}
        )
        for _, subscription in recalled:
            subscription.apply(Input.RECALL)
        return [Recall(identity, recalled)] if recalled else []

    def recalled(self, channel: str, subscription: Subscription, past: Past) -> list[Effect]:
        """Continue a `Recall` effect for one channel: replay what was missed."""
        if self._table.get(channel) is not subscription:
            return []
        subscription.apply(Input.ENTERED)
        subscription.told(past)
        return [*_missed(channel, past), Admit(channel, subscription.entered)]

    def refused(self, channel: str, subscription: Subscription, reason: str) -> list[Effect]:
        """Continue an `Enter` effect that the broker refused."""
        if self._table.get(channel) is not subscription:
            return []
        return [*self.unsubscribe(channel), Refuse(channel, 403, reason)]

    def refresh(self, channel: str) -> list[Effect]:
        """Confirm a subscription again, with what the broker knows now."""
        known = self._table.get(channel)
        return self._repeated(channel, known) if known is not None else []

    def _join(self, channel: str, subscription: Subscription) -> AskBackend | Join:
        self._table[channel] = subscription
        if subscription.asks is not None:
            subscription.apply(Input.ASK)
            return AskBackend(channel, subscription)
        subscription.apply(Input.SUBSCRIBE)
        return Join(channel, subscription.grant)

    def _repeated(self, channel: str, known: Subscription) -> list[Effect]:
        if not known.is_in:
            return []
        if known.member is not None:
            # The broker knows who is there now.
            return [Enter(channel, known)]
        return [self._succeeded(channel, known, Entered())]

    def _succeeded(self, channel: str, subscription: Subscription, entered: Entered) -> Send:
        roster = entered.roster if subscription.member is not None else None
        return Send(frames.subscription_succeeded(channel, roster))

    def resume(self, command: commands.Resume) -> list[Effect]:
        """Remember from where on the client wants a channel that it will subscribe to."""
        if command.channel in self._table:
            error = "the channel is subscribed to already"
        elif len(self._resume) >= self._app.limits.max_subscriptions:
            error = "too many channels to resume"
        else:
            self._resume[command.channel] = command
            error = None
        return [Send(frames.answered(Event.RESUME, command.channel, error))]

    def unpark(self) -> list[commands.Subscribe]:
        """Return what waited for authentication, in order of arrival; nothing waits any more."""
        return self._parked.leave()

    # --- changes ---------------------------------------------------------------------------------

    def unsubscribe(self, channel: str) -> list[Effect]:
        """Leave a channel, or give up asking for it."""
        self._parked.drop(channel)
        self._lost.pop(channel, None)
        self._ask_at.pop(channel, None)
        subscription = self._table.pop(channel, None)
        if subscription is None:
            return []
        subscription.apply(Input.UNSUBSCRIBE)
        return [Leave(channel)]

    def narrow(self, command: commands.Filter) -> list[Effect]:
        """Filter what a subscription hears, or widen it again."""
        channel, subscription = command.channel, self._table.get(command.channel)
        if subscription is None:
            return [
                Send(frames.answered(Event.FILTER, channel, "the channel is not subscribed to"))
            ]
        if self._rules.contract.match(channel) is None:
            return [
                Send(frames.answered(Event.FILTER, channel, "the channel is not in the contract"))
            ]
        try:
            scope = parse_scope(command.scope)
        except BadFilter as error:
            return [Send(frames.answered(Event.FILTER, channel, str(error)))]
        subscription.grant = replace(subscription.grant, scope=scope)
        return [Regroup(channel, subscription.grant), Send(frames.answered(Event.FILTER, channel))]

    def rejudge(self, speaker: Speaker, now: float) -> list[Effect]:
        """Judge everything anew by who speaks now: rights may have ended, and may return.

        Who lost a channel is told, and let in again when the right returns, because pusher-js does
        not ask a second time.
        """
        effects: list[Effect] = []
        for channel, subscription in list(self._table.items()):
            match = self._rules.contract.match(channel) if subscription.by_principal else None
            if match is not None and speaker.principal is not None:
                effects += self._rejudged(match, subscription, speaker.principal)
            elif subscription.signed is not None:
                effects += self._rejudged_signature(channel, subscription.signed, speaker, now)
        for command in list(self._lost.values()):
            effects += self._regained(command, speaker, now)
        return effects

    def _regained(self, command: commands.Subscribe, speaker: Speaker, now: float) -> list[Effect]:
        """Let a lost subscription in again, if its right has returned."""
        try:
            admitted = judge(command, speaker, self._rules, now)
        except SubscriptionRefused:
            return []
        if admitted is None or len(self._table) >= self._app.limits.max_subscriptions:
            return []
        del self._lost[command.channel]
        return [self._join(command.channel, admitted.subscription)]

    def _rejudged(
        self, match: ChannelMatch, subscription: Subscription, principal: Principal
    ) -> list[Effect]:
        channel = match.channel
        decision = access.decide(principal, match)
        if isinstance(decision, Refusal):
            refusal = SubscriptionRefused(channel, decision.status, decision.reason)
            return self._lose(commands.Subscribe(channel), refusal)
        decision = replace(decision, scope=subscription.grant.scope)
        member = subscription.member
        if member is not None and member.user_id != principal.sub:
            # Somebody else sits there now: one member goes and another comes.
            gone = self.unsubscribe(channel)
            try:
                replacement = by_right_of(principal, channel, decision, self._app)
            except SubscriptionRefused as refused:
                return [*gone, _refused(refused)]
            replacement.asks = principal if subscription.asks is not None else None
            return [*gone, self._join(channel, replacement)]
        if decision == subscription.grant:
            return []
        subscription.grant = decision
        return [Regroup(channel, decision)]

    def _rejudged_signature(
        self,
        channel: str,
        signed: tuple[Principal, commands.Subscribe],
        speaker: Speaker,
        now: float,
    ) -> list[Effect]:
        _, command = signed
        try:
            admitted = judge(command, speaker, self._rules, now)
        except SubscriptionRefused as refused:
            return self._lose(command, refused)
        subscription = self._table[channel]
        now_granted = admitted.subscription.grant if admitted is not None else subscription.grant
        grant = replace(now_granted, scope=subscription.grant.scope)
        if grant == subscription.grant:
            return []
        subscription.grant = grant
        return [Regroup(channel, grant)]

    def _lose(self, command: commands.Subscribe, refused: SubscriptionRefused) -> list[Effect]:
        effects = self.unsubscribe(command.channel)
        self._lost[command.channel] = command
        return [*effects, _refused(refused)]

    # --- client events ---------------------------------------------------------------------------

    def relay(self, command: commands.ClientEvent) -> Relay:
        """Check a client's event against the rules; raises `ProtocolError` naming the channel."""
        subscription = self._table.get(command.channel)
        return client_events.relay(command, subscription, self._app, self._rules)


def _missed(channel: str, past: Past) -> list[Effect]:
    """Tell what was missed of a channel, and that there may be more."""
    effects: list[Effect] = []
    if past.gap is not None:
        effects.append(Send(frames.gap(channel, past.gap, past.since_ms)))
    if past.frames:
        effects.append(Replay(past.frames))
    return effects


def _refused(refused: SubscriptionRefused) -> Refuse:
    return Refuse(refused.channel, refused.status, refused.reason)

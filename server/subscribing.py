"""What a session's subscriptions are to its node: to the hub, to presence, to who is asked."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol, assert_never

from auth.apps import App
from server.arrival import Admitting, Arrival
from server.authorizer import Answer
from server.channels import Subscriber
from server.protocol.effects import Admit, AskBackend, Enter, Join, Leave, Regroup
from server.protocol.subscriptions import Verdict
from server.session_audit import Client
from server.surroundings import Surroundings


class Subscribing(Admitting, Subscriber, Client, Protocol):
    """A session, as one that subscribes."""

    def authorized(self, asked: AskBackend, verdict: Verdict) -> None:
        """Learn what the backend says of a subscription."""


def carry_out(
    effect: Join | Enter | Admit | Regroup | Leave, session: Subscribing, around: Surroundings
) -> None:
    """Do what the core wants done with a subscription."""
    hub, key = around.hub, (session.app_id, effect.channel)
    match effect:
        case Join():
            hub.join(key, session, effect.grant)
        case Enter():
            arrival = Arrival(session, effect, around.resuming)
            around.presence.enter(key, session.socket_id, effect.subscription.member, arrival)
        case Admit():
            hub.admit(key, session, effect.entered)
        case Regroup():
            hub.regroup(key, session, effect.grant)
            around.audit.regrouped(session, effect.channel, effect.grant)
        case Leave():
            leave(effect.channel, session, around)
            around.resuming.left(session, effect.channel)
            around.audit.left(session, effect.channel)
        case _:
            assert_never(effect)


def leave(channel: str, session: Subscribing, around: Surroundings) -> None:
    """Have a session hear a channel no more, however far it has come."""
    key = session.app_id, channel
    around.hub.leave(key, session)
    around.presence.leave(key, session.socket_id)


def ask_backend(asked: AskBackend, app: App, session: Subscribing, around: Surroundings) -> None:
    """Ask whether a session may have a subscription; it is told, later or at once."""
    authorizer, principal = around.authorizer, asked.subscription.asks
    if authorizer is None or principal is None:
        session.authorized(asked, Verdict(allowed=False, reason="there is nobody to ask"))
        return
    answer = authorizer.ask(app, session.socket_id, asked.channel, principal)
    answer.add_done_callback(partial(_answered, asked, session))


def _answered(asked: AskBackend, session: Subscribing, future: asyncio.Future[Answer]) -> None:
    if not future.cancelled():
        answer = future.result()
        session.authorized(asked, Verdict(answer.allowed, answer.reason, answer.ttl_s))

"""A conversation with the connection's core: a client's words in, effects out, frames decoded."""

from __future__ import annotations

import json
from typing import Any, Final

from auth.apps import App
from auth.channel_auth import sign_channel
from auth.principal import Principal
from auth.user_auth import sign_user
from server.protocol.connection import Connection
from server.protocol.effects import Admit, Effect, Enter, Join, Recall, Refuse, Send
from server.protocol.presence import Entered, Member, Past
from server.protocol.rules import Rules
from server.protocol.subscription import Subscription
from server.protocol.way import Way
from tests.people import APP, CONTRACT, NOW

SOCKET_ID: Final = "12.34"
RULES: Final = Rules(CONTRACT)
PUSHER: Final = Rules(CONTRACT, serves_unlisted=True)
ROOMS: Final = "grand.rooms"
JWT: Final = "aaa.bbb.ccc"


def decoded(effects: list[Effect]) -> list[Any]:
    """Return effects with each frame as JSON, its data too where that is a string of JSON."""
    return [_decoded(effect) for effect in effects]


def _decoded(effect: Effect) -> Any:
    match effect:
        case Send(frame):
            return _frame(frame)
        case Refuse(channel, status, reason):
            return refused(channel, status, reason)
        case Recall(identity, channels):
            return recall(identity, *(channel for channel, _ in channels))
        case _:
            return effect


def recall(identity: str, *channels: str) -> tuple[str, str, list[str]]:
    """Return what stands for a `Recall`."""
    return "recall", identity, list(channels)


def _frame(text: bytes) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(text)
    if isinstance(frame["data"], str):
        frame["data"] = json.loads(frame["data"])
    return frame


class Talk:
    """One connection and the time; every method returns the effects, decoded."""

    def __init__(
        self,
        rules: Rules = RULES,
        *,
        spread: float = 0.0,
        app: App = APP,
        instance: str | None = None,
    ) -> None:
        self.now = NOW
        self.connection = Connection(
            SOCKET_ID, app, rules, spread=spread, now=NOW, instance=instance
        )
        self.asked: dict[str, Subscription] = {}
        """What the broker was last asked to let in, by channel."""

    def open(self, principal: Principal | None = None, way: Way = Way.PATH) -> list[Any]:
        return decoded(self.connection.open(principal, way, self.now))

    def say(self, event: str, data: Any = None, **more: Any) -> list[Any]:
        text = json.dumps({"event": event, "data": {} if data is None else data, **more})
        return decoded(self.connection.receive(text.encode(), self.now))

    def subscribe(self, channel: str, **data: Any) -> list[Any]:
        return self.say("pusher:subscribe", {"channel": channel, **data})

    def subscribe_signed(self, channel: str, data: Any = None) -> list[Any]:
        """Subscribe with the app's signature, over channel_data where there is any."""
        text = None if data is None else json.dumps(data)
        auth = sign_channel(APP, SOCKET_ID, channel, text)
        return self.subscribe(channel, auth=auth, channel_data=text)

    def unsubscribe(self, channel: str) -> list[Any]:
        return self.say("pusher:unsubscribe", {"channel": channel})

    def joined(self, channel: str) -> list[Any]:
        """Let the node listen to a channel."""
        return self.asking(self.connection.joined(channel))

    def asking(self, effects: list[Effect]) -> list[Any]:
        """Remember what the broker is asked, and return the effects, decoded."""
        for effect in effects:
            if isinstance(effect, Enter):
                self.asked[effect.channel] = effect.subscription
        return decoded(effects)

    def entered(
        self, channel: str, entered: Entered | None = None, past: Past | None = None
    ) -> list[Any]:
        """Have the broker let in what it was last asked to; a member is alone at first."""
        subscription = self.asked[channel]
        if entered is None:
            entered = alone(subscription.member)
        return decoded(self.connection.entered(channel, subscription, entered, past or Past()))

    def refused(self, channel: str, reason: str) -> list[Any]:
        """Have the broker refuse what it was last asked to let in."""
        return decoded(self.connection.refused(channel, self.asked[channel], reason))

    def arrive(self, channel: str) -> list[Any]:
        """Let the node listen and the broker let in: what follows a `Join`."""
        (enter,) = self.joined(channel)
        assert isinstance(enter, Enter)
        assert enter.channel == channel
        return self.entered(channel)

    def hear(self, channel: str) -> list[Any]:
        """Subscribe, and whatever follows, the whole way to success."""
        effects = self.subscribe(channel)
        return effects + (self.arrive(channel) if isinstance(effects[-1], Join) else [])

    def signin(self, user: Any) -> list[Any]:
        """Sign in with the app's signature."""
        text = user if isinstance(user, str) else json.dumps(user)
        auth = sign_user(APP, SOCKET_ID, text)
        return self.say("pusher:signin", {"auth": auth, "user_data": text})

    def signin_by_token(self, principal: Principal, user: Any) -> list[Any]:
        """Sign in with a JWT that is found good, and return what follows that."""
        text = user if isinstance(user, str) else json.dumps(user)
        (asked,) = self.say("pusher:signin", {"auth": JWT, "user_data": text})
        return decoded(self.connection.token_verified(asked, principal, self.now))

    def renew(self, principal: Principal) -> list[Any]:
        """Bring a fresh token that is found good, and return what follows that."""
        (asked,) = self.say("bellhop:auth", {"token": JWT})
        return decoded(self.connection.token_verified(asked, principal, self.now))

    def revoked(self) -> list[Any]:
        """Learn that what is revoked has changed."""
        return decoded(self.connection.revoked(self.now))

    def tick(self, after_s: float = 0.0) -> list[Any]:
        self.now += after_s
        return decoded(self.connection.tick(self.now))


def alone(member: Member | None) -> Entered:
    """Return what a first subscriber learns: of itself, where it is a member."""
    return Entered(version=1, roster=(member,)) if member is not None else Entered()


def heard(channel: str) -> list[Any]:
    """Return what follows when the broker lets a first subscriber in that is no member."""
    return [succeeded(channel), Admit(channel, Entered())]


def succeeded(channel: str, data: Any = None) -> dict[str, Any]:
    """Return the frame that confirms a subscription."""
    return {
        "event": "pusher_internal:subscription_succeeded",
        "channel": channel,
        "data": {} if data is None else data,
    }


def refused(channel: str, status: int, reason: str) -> dict[str, Any]:
    """Return the frame that refuses one."""
    return {
        "event": "pusher:subscription_error",
        "channel": channel,
        "data": {"type": "AuthError", "error": reason, "status": status},
    }


def signed_in(user: Any) -> dict[str, Any]:
    """Return the frame that confirms a signin."""
    text = user if isinstance(user, str) else json.dumps(user)
    return {"event": "pusher:signin_success", "data": {"user_data": text}}


def authenticated(exp: float) -> dict[str, Any]:
    """Return the frame that confirms a renewal."""
    return {"event": "bellhop:authenticated", "data": {"exp": int(exp)}}

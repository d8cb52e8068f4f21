"""A client that is known only after it has subscribed, and what it is told then."""

from __future__ import annotations

from typing import Any

import pytest

from channels_spec.pusher import ErrorCode
from server.protocol.effects import Admit, Enter, Join, Leave, Relay, Replay
from server.protocol.presence import Entered, GapReason, Member, Past
from server.protocol.rules import Rules
from server.protocol.subscription import Subscription
from tests.people import CONTRACT, NOW, staff
from tests.server.protocol.talk import PUSHER, Talk, decoded, recall, succeeded

LOBBY = "private-lobby"
OTHER = "lobby"
USER = {"id": "guest-1"}
KNOWN_AS = "sub guest-1"
EVENTS = (b'{"event":"a","data":"1"}', b'{"event":"b","data":"2"}')
ENTERED = Entered(number=4, epoch="e", time_ms=1)


def there(channel: str = LOBBY, entered: Entered = ENTERED, rules: Rules = PUSHER) -> Talk:
    """Return a conversation with somebody who has subscribed, and is not known."""
    talk = Talk(rules)
    talk.open()
    talk.subscribe_signed(channel, {"user_id": "5"} if channel.startswith("presence-") else None)
    talk.joined(channel)
    talk.entered(channel, entered)
    return talk


def recalled(talk: Talk, past: Past, channel: str = LOBBY) -> list[Any]:
    """Answer what was asked when the client was known."""
    return decoded(talk.connection.recalled(channel, talk.asked[channel], past))


def of(talk: Talk, channel: str = LOBBY) -> Subscription:
    """Return what the broker has let in."""
    return talk.asked[channel]


def test_what_is_subscribed_is_looked_into_once_the_client_is_known() -> None:
    """All that it has been let into; what is on its way in asks with its name anyway."""
    talk = there()
    talk.hear(OTHER)
    assert isinstance(talk.subscribe("on-its-way")[-1], Join)
    assert talk.signin(USER)[-1] == recall(KNOWN_AS, LOBBY, OTHER)
    # The same person once more, and whose answer is awaited: there is nothing new.
    assert recall(KNOWN_AS, LOBBY, OTHER) not in talk.signin(USER)
    talk.arrive("on-its-way")
    assert recalled(talk, Past()) == [Admit(LOBBY, ENTERED)]


@pytest.mark.parametrize("gap", [None, GapReason.IDENTIFIED_LATE])
def test_what_was_missed_follows_without_a_second_confirmation(gap: GapReason | None) -> None:
    """The gap if there is one, the replay, then what was held back meanwhile."""
    talk = there()
    talk.signin(USER)
    told = recalled(talk, Past(EVENTS, gap, 5_000))
    notice = {
        "event": "bellhop:gap",
        "channel": LOBBY,
        "data": {"reason": "identified_late", "since": "1970-01-01T00:00:05.000Z"},
    }
    assert told == [*([notice] if gap else []), Replay(EVENTS), Admit(LOBBY, ENTERED)]
    assert of(talk).told_ms == 5_000


def test_channel_that_was_left_meanwhile_is_told_nothing() -> None:
    """Nor is one that was subscribed to anew: that asks for itself."""
    talk = there()
    asked = of(talk)
    talk.signin(USER)
    assert talk.unsubscribe(LOBBY) == [Leave(LOBBY)]
    assert decoded(talk.connection.recalled(LOBBY, asked, Past(EVENTS))) == []


def test_client_is_a_subscriber_while_it_is_looked_into() -> None:
    """It may send events; asked again, its subscription is confirmed again."""
    talk = there()
    talk.signin(USER)
    said = talk.say("client-typing", {}, channel=LOBBY)
    assert said == [Relay(LOBBY, "client-typing", "{}", None)]
    auth = {"channel": LOBBY}
    assert talk.say("pusher:subscribe", auth) == [succeeded(LOBBY)]
    talk.unsubscribe(LOBBY)
    (error,) = talk.say("client-typing", {}, channel=LOBBY)
    assert error["data"]["code"] == ErrorCode.CLIENT_EVENT_REFUSED


def test_roster_is_told_again_while_a_member_is_looked_into() -> None:
    """As after an outage: that is no new entrance."""
    member = Member("5", b"null")
    entered = Entered(number=4, epoch="e", version=2, roster=(member,), time_ms=1)
    talk = there("presence-lobby", entered)
    talk.signin(USER)
    (again,) = talk.asking(talk.connection.refresh("presence-lobby"))
    assert isinstance(again, Enter)
    roster = {"presence": {"count": 1, "ids": ["5"], "hash": {"5": None}}}
    assert talk.entered("presence-lobby", entered) == [succeeded("presence-lobby", roster)]
    # The roster is not kept.
    kept = Entered(number=4, epoch="e", version=2, time_ms=1)
    assert recalled(talk, Past(), "presence-lobby") == [Admit("presence-lobby", kept)]


def test_ping_proves_nothing_while_a_client_is_looked_into() -> None:
    """What is held back for it stands behind the ping."""
    talk = there(rules=Rules(CONTRACT, serves_unlisted=True, ping_s=100, pong_timeout_s=10_000))
    talk.signin(USER)
    for proven in (None, NOW + 200):
        talk.tick(100)
        talk.say("pusher:pong")
        assert talk.connection.proofs.until == proven
        recalled(talk, Past())


def test_name_that_changes_while_a_channel_is_entered_is_asked_about_afterwards() -> None:
    """One channel alone, and only with a name."""
    talk = there()
    talk.hear(OTHER)
    assert talk.connection.recall(OTHER) == []
    talk.renew(staff("grand", jti="j-1"))
    for channel in (LOBBY, OTHER):
        recalled(talk, Past(), channel)
    assert decoded(talk.connection.recall(OTHER)) == [recall("jti j-1 staff-1", OTHER)]
    assert talk.connection.recall("elsewhere") == []


def test_cached_event_is_remembered_without_its_frame() -> None:
    """Whether it was sent decides what of its past may still follow."""
    for entered, past, got in (
        (Entered(number=2, epoch="e", cached=EVENTS[-1]), Past(), True),
        (Entered(number=2, epoch="e", cached=EVENTS[-1]), Past(EVENTS, None, 9), False),
        (Entered(number=2, epoch="e"), Past(), False),
    ):
        talk = Talk(PUSHER)
        talk.open()
        talk.subscribe("cache-lobby")
        talk.joined("cache-lobby")
        talk.entered("cache-lobby", entered, past)
        subscription = of(talk, "cache-lobby")
        assert subscription.got_cached is got
        assert subscription.entered == Entered(number=2, epoch="e")


def test_client_that_counts_for_itself_has_been_told() -> None:
    """It named from where on; no past of its name is older."""
    talk = Talk(PUSHER)
    talk.open()
    talk.say("bellhop:resume", {"channel": OTHER, "epoch": "e", "sequence": 5})
    talk.subscribe(OTHER)
    talk.joined(OTHER)
    assert of(talk, OTHER).told_ms == 0

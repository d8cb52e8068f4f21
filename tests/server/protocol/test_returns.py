"""What a connection proves of itself, and what it is told when it comes back."""

from __future__ import annotations

from typing import Any

import pytest

from auth.apps import Limits
from server.protocol.commands import Resume
from server.protocol.effects import Admit, Enter, Join, MissedCache, Replay
from server.protocol.frames import PING, PONG
from server.protocol.identity import identity
from server.protocol.presence import Entered, GapReason, Past
from server.protocol.rules import Rules
from tests.people import APP, CONTRACT, NOW, principal, staff
from tests.server.protocol.talk import ROOMS, Talk, succeeded

QUIET = Rules(CONTRACT, serves_unlisted=True, ping_s=100, pong_timeout_s=100_000)
PINGED = {"event": "pusher:ping", "data": {}}
EVENTS = (b'{"event":"a","data":"1"}', b'{"event":"b","data":"2"}')


def there(rules: Rules = QUIET, **more: Any) -> Talk:
    """Return a conversation with somebody of the hotel."""
    talk = Talk(rules, **more)
    talk.open(staff("grand", exp=NOW + 1_000_000))
    return talk


def pong(talk: Talk) -> float | None:
    """Answer a ping; return what is proven by now."""
    assert talk.say("pusher:pong") == []
    return talk.connection.proofs.until


# --- proofs --------------------------------------------------------------------------------------


def test_nothing_is_proven_at_first() -> None:
    """Neither by being there nor by speaking, nor by a pong that nobody asked for."""
    talk = there()
    talk.hear(ROOMS)
    talk.say("pusher:ping")
    assert pong(talk) is None


def test_answered_ping_proves_until_when_it_was_sent() -> None:
    """However late the answer comes, and only once."""
    talk = there()
    assert talk.tick(100) == [PINGED]
    talk.now += 7
    assert pong(talk) == NOW + 100
    assert pong(talk) == NOW + 100


def test_ping_proves_no_more_than_what_the_node_had_heard() -> None:
    """What was published and had not come in by then is not proven; less than before is nothing."""
    talk = there()
    for heard, proven in ((NOW + 50, NOW + 50), (0.0, NOW + 50), (NOW + 999, NOW + 300)):
        talk.now += 100
        assert talk.connection.tick(talk.now, heard)
        assert pong(talk) == proven


def test_ping_proves_nothing_while_events_are_held_back_for_a_subscription() -> None:
    """They stand behind it. What is answered after they are sent proves it."""
    talk = returning()
    talk.tick(100)
    assert pong(talk) is None
    talk.entered(ROOMS, Entered())
    talk.tick(100)
    assert pong(talk) == NOW + 200


def test_pings_are_answered_in_order() -> None:
    """Two under way: the first answer is to the first."""
    talk = there()
    talk.tick(100)
    talk.tick(100)
    assert pong(talk) == NOW + 100
    assert pong(talk) == NOW + 200
    assert pong(talk) == NOW + 200


def test_client_that_leaves_too_many_pings_unanswered_proves_nothing_more() -> None:
    """Which of them a pong answers could not be told."""
    talk = there()
    talk.tick(100)
    assert pong(talk) == NOW + 100
    for _ in range(9):
        talk.tick(100)
    for _ in range(12):
        assert pong(talk) == NOW + 100


def test_probe_is_a_ping_unless_one_is_under_way() -> None:
    """Whoever answers that is alive, too."""
    talk = there()
    assert [effect.frame for effect in talk.connection.probe(talk.now + 5)] == [PING]  # type: ignore[union-attr]  # a Send
    assert talk.connection.probe(talk.now + 6) == []
    assert pong(talk) == NOW + 5
    assert talk.connection.deadline() == NOW + 105
    assert PONG != PING


# --- identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "instance, claims, user_id, expected",
    [
        ("page-1", {"sid": "s", "jti": "j"}, "staff-1", "instance page-1 staff-1"),
        (None, {"sid": "s", "jti": "j"}, "staff-1", "sid s staff-1"),
        (None, {"jti": "j"}, "staff-1", "jti j staff-1"),
        (None, {}, "staff-1", "sub staff-1"),
        (None, None, "staff-1", "sub staff-1"),
        ("page-1", None, None, "instance page-1 "),
        (None, None, None, None),
    ],
)
def test_identity_is_the_closest_name_that_is_known(
    instance: str | None, claims: dict[str, Any] | None, user_id: str | None, expected: str | None
) -> None:
    """The page, else the device, else the token, else the person; always with the person."""
    who = principal(**claims) if claims is not None else None
    assert identity(instance, who, user_id) == expected


def test_identity_is_of_whoever_speaks_now() -> None:
    """A renewed token may have another name."""
    talk = Talk(instance=None)
    talk.open()
    assert [talk.connection.identity] == [None]
    talk.renew(staff("grand", jti="j-1"))
    assert talk.connection.identity == "jti j-1 staff-1"
    talk.renew(staff("grand", jti="j-2"))
    assert talk.connection.identity == "jti j-2 staff-1"
    assert there(instance="page-1").connection.identity == "instance page-1 staff-1"


# --- replay --------------------------------------------------------------------------------------


def returning(channel: str = ROOMS) -> Talk:
    """Return a conversation in which the broker is asked to let a subscriber in."""
    talk = there()
    assert isinstance(talk.subscribe(channel)[-1], Join)
    talk.joined(channel)
    return talk


def gap(channel: str, reason: str, since: str | None) -> dict[str, Any]:
    """Return the frame that tells of a gap."""
    return {
        "event": "bellhop:gap",
        "channel": channel,
        "data": {"reason": reason, "since": since},
    }


def test_what_was_missed_comes_before_what_is_live() -> None:
    """Success, the gap if there is one, the replay; then what was held back since."""
    entered = Entered(number=9, epoch="e")
    past = Past(EVENTS, GapReason.WINDOW_EXCEEDED, 1_700_000_000_123)
    assert returning().entered(ROOMS, entered, past) == [
        succeeded(ROOMS),
        gap(ROOMS, "window_exceeded", "2023-11-14T22:13:20.123Z"),
        Replay(EVENTS),
        Admit(ROOMS, entered),
    ]


@pytest.mark.parametrize("reason", GapReason)
def test_gap_is_told_where_nothing_can_be_replayed(reason: GapReason) -> None:
    """When it began may not be known."""
    assert returning().entered(ROOMS, Entered(), Past(gap=reason)) == [
        succeeded(ROOMS),
        gap(ROOMS, reason.value, None),
        Admit(ROOMS, Entered()),
    ]


def test_cached_event_is_not_sent_beside_its_replay() -> None:
    """The last event of the channel is the last of what was missed."""
    entered = Entered(number=2, cached=EVENTS[-1])
    assert returning("cache-x").entered("cache-x", entered, Past(EVENTS)) == [
        succeeded("cache-x"),
        Replay(EVENTS),
        Admit("cache-x", entered),
    ]
    assert returning("cache-x").entered("cache-x", Entered(), Past(EVENTS[:1])) == [
        succeeded("cache-x"),
        Replay(EVENTS[:1]),
        Admit("cache-x", Entered()),
    ]
    assert MissedCache("cache-x") in returning("cache-x").entered("cache-x", Entered(), Past())


# --- bellhop:resume ------------------------------------------------------------------------------


def resume(talk: Talk, channel: str = ROOMS, sequence: int = 5) -> list[Any]:
    """Name the last event that the client has."""
    return talk.say("bellhop:resume", {"channel": channel, "epoch": "e", "sequence": sequence})


def answer(channel: str, error: str | None = None) -> list[Any]:
    """Return the answer to it."""
    if error is None:
        return [{"event": "bellhop:resume:ok", "data": {"channel": channel}}]
    data = {"channel": channel, "error": error}
    return [{"event": "bellhop:resume:error", "data": data}]


def test_client_may_name_its_point_before_it_subscribes() -> None:
    """The last one counts, for one subscribe."""
    talk = there()
    assert resume(talk) == answer(ROOMS)
    assert resume(talk, sequence=7) == answer(ROOMS)
    talk.subscribe(ROOMS)
    (enter,) = talk.joined(ROOMS)
    assert isinstance(enter, Enter)
    assert enter.after == Resume(ROOMS, "e", 7)
    talk.entered(ROOMS)
    talk.unsubscribe(ROOMS)
    talk.subscribe(ROOMS)
    (again,) = talk.joined(ROOMS)
    assert isinstance(again, Enter)
    assert again.after is None


def test_point_of_a_channel_that_is_subscribed_is_refused() -> None:
    """It comes too late: what is live has begun."""
    talk = there()
    talk.subscribe(ROOMS)
    assert resume(talk) == answer(ROOMS, "the channel is subscribed to already")


def test_points_are_bounded() -> None:
    """As many as there may be subscriptions."""
    app = type(APP)(APP.id, APP.key, APP.secret, limits=Limits(max_subscriptions=2))
    talk = there(app=app)
    assert resume(talk, "a") == answer("a")
    assert resume(talk, "b") == answer("b")
    assert resume(talk, "c") == answer("c", "too many channels to resume")


@pytest.mark.parametrize("sequence", [None, -1, 1.5, "5", True])
def test_point_that_is_no_number_is_malformed(sequence: object) -> None:
    """Said by `pusher:error`, and forgotten."""
    data = {"channel": ROOMS, "epoch": "e", "sequence": sequence}
    (error,) = there().say("bellhop:resume", data)
    assert error["data"]["message"] == "bellhop:resume: sequence must be a whole number"

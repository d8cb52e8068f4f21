"""Channels about which the backend is asked: nobody is in before it has said so."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from auth.access import Grant
from auth.principal import Principal
from channels_spec.document import Document
from channels_spec.reading import HOTEL_CONTRACT, contract_of
from server.protocol.effects import AskBackend, Join, Leave
from server.protocol.rules import Rules
from server.protocol.subscription import Subscription
from server.protocol.subscriptions import Verdict
from server.protocol.way import Way
from tests.people import NOW, principal, service, staff
from tests.server.protocol.talk import Talk, decoded, refused

STAFF = Grant(views=(("grand", "staff"),))
CHANNEL = "staff-chat-conversation-7"
ROSTER = "presence-grand.desk"
MEMBER = staff("grand", conversations=["7"])
YES, NO = Verdict(allowed=True), Verdict(allowed=False, reason="the backend says no")


def rules() -> Rules:
    """Return rules by which conversations and rosters ask the backend."""
    document: Any = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    for family in ("staffChatConversation", "roster"):
        document["channels"][family]["x-bellhop-authorizer"] = "callback"
    return Rules(contract_of(Document(HOTEL_CONTRACT, document, None)), ping_s=10_000)


class Doorbell:
    """A conversation with somebody whose channels the backend is asked about."""

    def __init__(self, who: Principal = MEMBER) -> None:
        self.talk = Talk(rules())
        self.talk.open(who)

    def ring(self, channel: str = CHANNEL, *effects: Any) -> Subscription:
        """Subscribe, and return what the backend is asked about."""
        (ask,) = effects or self.talk.subscribe(channel)
        assert isinstance(ask, AskBackend)
        assert ask.channel == channel
        return ask.subscription

    def answer(self, asked: Subscription, verdict: Verdict, channel: str = CHANNEL) -> list[Any]:
        """Have the backend answer."""
        connection = self.talk.connection
        return decoded(connection.authorized(channel, asked, verdict, self.talk.now))

    def inside(self, ttl_s: float | None = None) -> Subscription:
        """Be let in by the backend and by the broker."""
        asked = self.ring()
        assert self.answer(asked, Verdict(allowed=True, ttl_s=ttl_s)) == [Join(CHANNEL, STAFF)]
        self.talk.arrive(CHANNEL)
        return asked


def test_subscriber_waits_for_the_backends_answer() -> None:
    """It joins nothing before; whom it is asked about is told."""
    bell = Doorbell()
    asked = bell.ring()
    assert asked.asks == MEMBER
    assert bell.talk.joined(CHANNEL) == []
    assert bell.answer(asked, YES) == [Join(CHANNEL, STAFF)]
    assert bell.answer(asked, YES) == []


def test_refusal_of_the_backend_is_told_and_leaves_no_trace() -> None:
    """The channel may be asked for again."""
    bell = Doorbell()
    for _ in range(2):
        refusal = refused(CHANNEL, 403, "the backend says no")
        assert bell.answer(bell.ring(), NO) == [Leave(CHANNEL), refusal]
    assert bell.talk.connection.channels == []


def test_answer_that_comes_too_late_counts_for_nothing() -> None:
    """The client has left, or asked again."""
    bell = Doorbell()
    before = bell.ring()
    bell.talk.unsubscribe(CHANNEL)
    after = bell.ring()
    assert bell.answer(before, YES) == []
    assert bell.answer(after, YES) == [Join(CHANNEL, STAFF)]


def test_backend_is_not_asked_about_what_the_token_does_not_open() -> None:
    """Nor about operators' machines."""
    (refusal,) = Doorbell(staff("ritz")).talk.subscribe(ROSTER)
    assert refusal["data"]["status"] == 403
    (join,) = Doorbell(service()).talk.subscribe(CHANNEL)
    assert isinstance(join, Join)


def test_backend_is_asked_again_when_its_answer_has_run_out() -> None:
    """Not before; an answer that lasts less than a few seconds lasts those."""
    bell = Doorbell()
    asked = bell.inside(ttl_s=30)
    assert bell.talk.connection.deadline() == NOW + 30
    assert bell.talk.tick(29) == []
    assert bell.ring(CHANNEL, *bell.talk.tick(1)) is asked
    assert bell.answer(asked, Verdict(allowed=True, ttl_s=0)) == []
    assert NOW + 30 < bell.talk.connection.deadline() <= NOW + 40


def test_answer_without_an_end_is_not_asked_for_again() -> None:
    """The right then ends as others do."""
    bell = Doorbell()
    bell.inside()
    assert bell.talk.tick(1000) == []


def test_subscriber_that_the_backend_does_not_want_any_more_is_out_until_it_does() -> None:
    """As after an outage: pusher-js does not ask again, so the server does."""
    bell = Doorbell()
    asked = bell.inside(ttl_s=30)
    bell.talk.tick(30)
    refusal = refused(CHANNEL, 403, "the backend says no")
    assert bell.answer(asked, NO) == [Leave(CHANNEL), refusal]
    wait = bell.talk.connection.deadline() - bell.talk.now
    again = bell.ring(CHANNEL, *bell.talk.tick(wait))
    assert again is not asked
    assert bell.answer(again, YES) == [Join(CHANNEL, STAFF)]


def test_subscriber_that_left_is_not_asked_about_again() -> None:
    """Nor one that was refused and has left since."""
    bell = Doorbell()
    bell.inside(ttl_s=30)
    bell.talk.unsubscribe(CHANNEL)
    assert bell.talk.tick(30) == []
    asked = bell.inside(ttl_s=30)
    bell.talk.tick(30)
    bell.answer(asked, NO)
    bell.talk.unsubscribe(CHANNEL)
    assert bell.talk.tick(100) == []


@pytest.mark.parametrize("verdict", [YES, NO])
def test_signature_with_a_token_behind_it_is_asked_about(verdict: Verdict) -> None:
    """The backend is asked about whoever the token is of; a later refusal can be taken back."""
    bell = Doorbell(principal("other", hotels=["ritz"]))
    said = {"user_id": "staff-1", "bellhop": MEMBER.claims()}
    asked = bell.ring(ROSTER, *bell.talk.subscribe_signed(ROSTER, said))
    allowed = Verdict(allowed=True, ttl_s=30)
    assert bell.answer(asked, allowed, ROSTER) == [Join(ROSTER, STAFF)]
    bell.talk.arrive(ROSTER)
    bell.talk.tick(30)
    outcome = bell.answer(asked, verdict, ROSTER)
    if verdict.allowed:
        assert outcome == []
        return
    assert outcome == [Leave(ROSTER), refused(ROSTER, 403, "the backend says no")]
    wait = bell.talk.connection.deadline() - bell.talk.now
    bell.ring(ROSTER, *bell.talk.tick(wait))


def test_other_person_on_a_roster_is_asked_about_anew() -> None:
    """A leave that was given to one is not given to the next."""
    bell = Doorbell()
    asked = bell.ring(ROSTER)
    bell.answer(asked, YES, ROSTER)
    other = staff("grand", sub="staff-2")
    effects = bell.talk.connection.recognized(other, Way.SIGNIN, NOW)
    assert effects[0] == Leave(ROSTER)
    assert bell.ring(ROSTER, *effects[1:]).asks == other

"""The hub against a model so simple that it can be believed: a list of frames per subscriber."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from auth.access import Grant
from server.channels import Key
from server.protocol.presence import Entered
from tests.server.room import Client, Room

KEYS: tuple[Key, ...] = (("1", "staff-hotel-1"), ("1", "staff-hotel-2"))
GRANTS = (
    Grant(views=(("a", "staff"),)),
    Grant(views=(("a", "finance"),)),
    Grant(views=(("a", "staff"), ("b", "finance")), no_hotel="staff"),
    Grant(any_hotel="staff"),
    Grant(),
)
Joined = tuple[Client, Key]
EVENTS = st.tuples(
    st.sampled_from(["staff finance", "staff", "finance"]),
    st.sampled_from(["a", "a", "b", ""]),
    st.sampled_from(["", "1.0", "1.1", "1.9"]),
)


def seen_by(grant: Grant, text: str, views: str, hotel: str) -> str | None:
    """Return the frame that a subscriber with a grant gets of an event."""
    named = dict(grant.views)
    view = (named.get(hotel) or grant.any_hotel) if hotel else grant.no_hotel
    return f"{text}:{view}" if view in views.split() else None


class HubMachine(RuleBasedStateMachine):
    """Clients come, move, go, fall behind; events come; the broker takes its time.

    What a client hears begins at the moment when the broker lets it in, however late the answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.room = Room()
        self.count = 0
        self.clients: list[Client] = []
        # What each (client, key) may hear, and how far it has come.
        self.grants: dict[Joined, Grant] = {}
        self.held: set[Joined] = set()
        self.entered: dict[Joined, Entered] = {}
        self.admitted: set[Joined] = set()
        self.numbers = dict.fromkeys(KEYS, 0)
        # How much of what is due to a subscriber waits for the broker's answer.
        self.unwritten: dict[Joined, int] = {}
        self.expected: dict[Client, dict[Key, list[str]]] = {}

    subscriptions: Bundle[Joined] = Bundle("subscriptions")

    @initialize(target=subscriptions, grants=st.tuples(*[st.sampled_from(GRANTS)] * 4))
    def connect(self, grants: tuple[Grant, ...]) -> MultipleResults[Joined]:
        for number, grant in enumerate(grants):
            client = self.room.client(f"1.{number}", limit=10**9, enters=False)
            self.clients.append(client)
            self.expected[client] = {}
            self.grants[client, KEYS[0]] = grant
            client.join(grant, KEYS[0])
        self.hold(KEYS[0])
        # Half of them are there already, the others on their way in.
        for subscription in list(self.grants)[:2]:
            self.broker_lets_in(subscription)
            self.broker_answers(subscription)
        return multiple(*self.grants)

    @rule(listens=st.booleans())
    def broker_comes_or_goes(self, *, listens: bool) -> None:
        self.room.listens = listens

    @rule(
        target=subscriptions,
        number=st.integers(0, 3),
        key=st.sampled_from(KEYS),
        grant=st.sampled_from(GRANTS),
    )
    def join(self, number: int, key: Key, grant: Grant) -> Joined | MultipleResults[Joined]:
        client = self.clients[number]
        if (client, key) in self.grants:
            return multiple()
        self.grants[client, key] = grant
        client.join(grant, key)
        if self.room.listens:
            self.hold(key)
        return (client, key)

    @rule(key=st.sampled_from(KEYS))
    def broker_confirms(self, key: Key) -> None:
        self.room.hub.watched(*key)
        self.hold(key)

    def hold(self, key: Key) -> None:
        there = self.entered.keys() | self.admitted
        self.held |= {each for each in self.grants if each[1] == key and each not in there}

    @rule(subscription=subscriptions)
    def broker_lets_in(self, subscription: Joined) -> None:
        if subscription in self.held:
            self.held.discard(subscription)
            self.entered[subscription] = Entered(self.numbers[subscription[1]], "e")

    @rule(subscription=subscriptions)
    def broker_answers(self, subscription: Joined) -> None:
        if subscription in self.entered:
            client, key = subscription
            client.admit(self.entered.pop(subscription), key)
            self.unwritten.pop(subscription, None)
            self.admitted.add(subscription)

    @rule(subscription=subscriptions)
    def broker_answers_again(self, subscription: Joined) -> None:
        """Nobody is admitted twice, nor before his time."""
        if subscription in self.admitted:
            client, key = subscription
            client.admit(Entered(), key)

    @rule(subscription=consumes(subscriptions))
    def leave(self, subscription: Joined) -> None:
        client, key = subscription
        del self.grants[subscription]
        self.held.discard(subscription)
        if self.entered.pop(subscription, None) is not None:
            # Let in, but gone before anything was written.
            self.owed(client, key)
        self.admitted.discard(subscription)
        client.leave(key)

    @rule(subscription=subscriptions, grant=st.sampled_from(GRANTS))
    def regroup(self, subscription: Joined, grant: Grant) -> None:
        client, key = subscription
        self.grants[subscription] = grant
        self.room.hub.regroup(key, client, grant)

    @rule(key=st.sampled_from(KEYS), events=st.lists(EVENTS, min_size=1, max_size=5))
    def publish(self, key: Key, events: list[tuple[str, str, str]]) -> None:
        for views, hotel, exclude in events:
            self.count += 1
            self.numbers[key] += 1
            text = f"{key[0]}/{key[1]}/{self.count}"
            self.room.publish(
                text,
                views=views,
                hotel=hotel,
                exclude=exclude,
                key=key,
                number=self.numbers[key],
            )
            for client, joined in (*self.admitted, *self.entered):
                frame = seen_by(self.grants[client, joined], text, views, hotel)
                if joined == key and client.socket_id != exclude and frame is not None:
                    self.expected[client].setdefault(key, []).append(frame)
                    if (client, joined) in self.entered:
                        self.unwritten[client, joined] = self.unwritten.get((client, joined), 0) + 1

    def owed(self, client: Client, key: Key) -> None:
        """Take back what was due to a subscriber that left while it was held back."""
        count = self.unwritten.pop((client, key), 0)
        if count:
            del self.expected[client][key][-count:]

    @rule()
    def turn_ends(self) -> None:
        self.room.turn()

    @rule(number=st.integers(0, 3), full=st.booleans())
    def transport_fills_or_drains(self, number: int, *, full: bool) -> None:
        outbox = self.clients[number].outbox
        if full:
            outbox.pause()
        else:
            outbox.resume()

    @invariant()
    def nobody_gets_anything_else(self) -> None:
        """What has been written so far is, channel by channel, the beginning of what is due."""
        for client in self.clients:
            for key, got in by_channel(client).items():
                assert got == self.expected[client].get(key, [])[: len(got)]

    @invariant()
    def the_hub_knows_who_is_there(self) -> None:
        for key in KEYS:
            there = {client for client, joined in self.admitted if joined == key}
            assert set(self.room.hub.subscribers(key)) == there
        assert self.room.hub.channel_count == len({key for _, key in self.grants})

    def teardown(self) -> None:
        """In the end everybody has got all of it."""
        for subscription in list(self.entered):
            self.broker_answers(subscription)
        self.room.turn()
        for client in self.clients:
            client.outbox.resume()
            due = {key: frames for key, frames in self.expected[client].items() if frames}
            assert by_channel(client) == due


def by_channel(client: Client) -> dict[Key, list[str]]:
    """Return a client's frames by channel: between channels there is no order."""
    frames: dict[Key, list[str]] = {}
    for frame in client.got:
        app_id, channel, _ = frame.split("/")
        frames.setdefault((app_id, channel), []).append(frame)
    return frames


TestHub = HubMachine.TestCase
TestHub.settings = settings(max_examples=80, stateful_step_count=40)

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
from server.hub import Key
from tests.server.room import Client, Room

KEYS: tuple[Key, ...] = (("1", "staff-hotel-1"), ("2", "staff-hotel-1"))
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
    """Clients come, move, go, fall behind; events come; the broker takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.room = Room()
        self.count = 0
        self.clients: list[Client] = []
        # What each (client, key) may hear, and whether it has joined yet.
        self.grants: dict[Joined, Grant] = {}
        self.admitted: set[Joined] = set()
        self.expected: dict[Client, dict[Key, list[str]]] = {}

    subscriptions: Bundle[Joined] = Bundle("subscriptions")

    @initialize(target=subscriptions, grants=st.tuples(*[st.sampled_from(GRANTS)] * 4))
    def connect(self, grants: tuple[Grant, ...]) -> MultipleResults[Joined]:
        for number, grant in enumerate(grants):
            client = self.room.client(f"1.{number}", limit=10**9)
            self.clients.append(client)
            self.expected[client] = {}
            self.grants[client, KEYS[0]] = grant
            client.join(grant, KEYS[0])
        self.admit(KEYS[0])
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
            self.admit(key)
        return (client, key)

    @rule(key=st.sampled_from(KEYS))
    def broker_confirms(self, key: Key) -> None:
        self.room.hub.watched(*key)
        self.admit(key)

    def admit(self, key: Key) -> None:
        self.admitted |= {subscription for subscription in self.grants if subscription[1] == key}

    @rule(subscription=consumes(subscriptions))
    def leave(self, subscription: Joined) -> None:
        client, key = subscription
        del self.grants[subscription]
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
            text = f"{key[0]}/{key[1]}/{self.count}"
            self.room.publish(text, views=views, hotel=hotel, exclude=exclude, key=key)
            for client, joined in self.admitted:
                frame = seen_by(self.grants[client, joined], text, views, hotel)
                if joined == key and client.socket_id != exclude and frame is not None:
                    self.expected[client].setdefault(key, []).append(frame)

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
        self.room.turn()
        for client in self.clients:
            client.outbox.resume()
            assert by_channel(client) == self.expected[client]


def by_channel(client: Client) -> dict[Key, list[str]]:
    """Return a client's frames by channel: between channels there is no order."""
    frames: dict[Key, list[str]] = {}
    for frame in client.got:
        app_id, channel, _ = frame.split("/")
        frames.setdefault((app_id, channel), []).append(frame)
    return frames


TestHub = HubMachine.TestCase
TestHub.settings = settings(max_examples=80, stateful_step_count=40)

from __future__ import annotations

import json
from typing import Any

import pytest

from auth.access import PLAIN_GRANT, Grant
from auth.apps import App
from auth.channel_auth import sign_channel
from auth.errors import AuthError, TokenInvalid
from auth.principal import Principal
from server.protocol.admission import Admitted, Speaker, judge, signed_principal
from server.protocol.commands import Subscribe
from server.protocol.errors import SubscriptionRefused
from server.protocol.rules import Rules
from tests.people import APP, CONTRACT, NOW, guest, principal, staff

SOCKET_ID = "12.34"
STRICT = Rules(CONTRACT)
PUSHER = Rules(CONTRACT, serves_unlisted=True)
STAFF = staff("grand", name="Zoë")
ROOMS = Grant(views=(("grand", "staff"),))


def speaker(
    who: Principal | None = None,
    *,
    user_id: str | None = None,
    user_info: object | None = None,
    waits: bool = True,
) -> Speaker:
    """Return what a connection knows; ``waits`` while somebody may yet authenticate."""
    return Speaker(APP, SOCKET_ID, who, user_id, user_info, waits)


def signed(
    channel: str, data: Any = None, *, app: App = APP, socket_id: str = SOCKET_ID
) -> Subscribe:
    """Return a subscribe that the app's backend has signed; data is encoded unless a string."""
    text = data if data is None or isinstance(data, str) else json.dumps(data)
    return Subscribe(channel, sign_channel(app, socket_id, channel, text), text)


def judged(command: Subscribe | str, who: Speaker, rules: Rules = STRICT) -> Admitted | None:
    """Judge a subscribe, given as its channel alone where nothing else matters."""
    asked = Subscribe(command) if isinstance(command, str) else command
    return judge(asked, who, rules, NOW)


def told(admitted: Admitted | None) -> dict[str, Any]:
    """Return an admission spelled out."""
    assert admitted is not None
    subscription = admitted.subscription
    member = subscription.member
    return {
        "grant": subscription.grant,
        "by_principal": subscription.by_principal,
        "member": (member.user_id, json.loads(member.user_info)) if member is not None else None,
        "proven": admitted.proven,
        "expires_at": admitted.expires_at,
    }


def admission(grant: Grant, **other: Any) -> dict[str, Any]:
    """Return the admission that is expected: by signature, unless said otherwise."""
    usual: dict[str, Any] = {
        "by_principal": False,
        "member": None,
        "proven": True,
        "expires_at": None,
    }
    return {"grant": grant, **usual, **other}


def refusal(command: Subscribe | str, who: Speaker, rules: Rules = STRICT) -> tuple[int, str]:
    """Return status and reason with which a subscribe is refused."""
    with pytest.raises(SubscriptionRefused) as caught:
        judged(command, who, rules)
    assert caught.value.channel == (command if isinstance(command, str) else command.channel)
    return caught.value.status, caught.value.reason


# --- by the connection's principal ---------------------------------------------------------------


@pytest.mark.parametrize("channel", ["grand.rooms", "private-grand.rooms"])
def test_guarded_channel_is_judged_by_the_principal(channel: str) -> None:
    """A contract channel needs no signature where the token's holder may hear it."""
    by_principal = admission(ROOMS, by_principal=True, proven=False)
    assert told(judged(channel, speaker(STAFF))) == by_principal
    assert told(judged(channel, speaker(STAFF, waits=False), PUSHER)) == by_principal


def test_roster_is_entered_under_the_tokens_name() -> None:
    """A member by right of the principal is its subject, with the name in the token."""
    assert told(judged("presence-grand.desk", speaker(STAFF))) == admission(
        ROOMS, by_principal=True, proven=False, member=("staff-1", {"name": "Zoë"})
    )


@pytest.mark.parametrize("channel", ["grand.rooms", "private-grand.rooms", "guest-booking-7"])
@pytest.mark.parametrize("rules", [STRICT, PUSHER])
def test_guarded_channel_waits_until_it_is_known_who_speaks(channel: str, rules: Rules) -> None:
    """Never refused early: pusher-js cannot ask again on the same connection."""
    assert judged(channel, speaker(), rules) is None


def test_guarded_channel_is_refused_when_nobody_will_authenticate_any_more() -> None:
    """After its time a connection is told at once that nobody is authenticated."""
    assert refusal("grand.rooms", speaker(waits=False)) == (401, "nobody is authenticated")


def test_guarded_channel_is_refused_to_a_user_without_a_token() -> None:
    """A signed user_data without `bellhop` opens no guarded channel, and nothing is to wait for."""
    for waits in (True, False):
        assert refusal("grand.rooms", speaker(user_id="12", waits=waits)) == (
            403,
            "the signed-in user_data carries no token for guarded channels",
        )


def test_guarded_channel_is_refused_when_the_principal_may_not_hear_it() -> None:
    """The reason of the decision goes to the client as it is."""
    assert refusal("sea-view.rooms", speaker(STAFF)) == (
        403,
        "the token does not name the hotel sea-view",
    )
    assert refusal("private-guest-booking.8", speaker(guest("7", "CHAT"))) == (
        403,
        "the token is for another booking",
    )


# --- outside the contract ------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["x", "private-x", "presence-x", "private-encrypted-x"])
@pytest.mark.parametrize("who", [speaker(), speaker(STAFF), speaker(waits=False)])
def test_unlisted_channel_is_refused_by_default(channel: str, who: Speaker) -> None:
    """A channel outside the contract is refused to everybody, signed or not."""
    reason = (403, "the channel is not in the contract")
    assert refusal(channel, who) == reason
    if channel != "x":
        assert refusal(signed(channel), who) == reason


def test_unlisted_public_channel_is_open_under_pushers_rules() -> None:
    """Nobody need be known for it, and subscribing proves nothing."""
    for who in (speaker(), speaker(STAFF), speaker(waits=False)):
        assert told(judged("x", who, PUSHER)) == admission(PLAIN_GRANT, proven=False)
        assert told(judged(Subscribe("x", "whatever"), who, PUSHER)) == admission(
            PLAIN_GRANT, proven=False
        )


@pytest.mark.parametrize("channel", ["private-x", "presence-x", "private-encrypted-x"])
def test_unlisted_signed_channel_needs_a_signature_under_pushers_rules(channel: str) -> None:
    """Without one it is refused, whoever speaks."""
    reason = (401, "the channel needs a signature in auth")
    assert refusal(channel, speaker(), PUSHER) == reason
    assert refusal(channel, speaker(STAFF), PUSHER) == reason


@pytest.mark.parametrize("channel", ["private-x", "private-encrypted-x"])
def test_unlisted_signed_channel_is_entered_with_a_signature(channel: str) -> None:
    """The app's signature admits to that channel, with or without channel_data."""
    assert told(judged(signed(channel), speaker(), PUSHER)) == admission(PLAIN_GRANT)
    with_data = signed(channel, {"user_id": 5})
    assert told(judged(with_data, speaker(), PUSHER)) == admission(PLAIN_GRANT)


def test_presence_member_is_whom_channel_data_names() -> None:
    """A numeric user_id becomes its decimal string; user_info is kept as it is."""
    data = {"user_id": 10, "user_info": {"name": "Mr. Channels"}}
    assert told(judged(signed("presence-x", data), speaker(user_id="7"), PUSHER)) == admission(
        PLAIN_GRANT, member=("10", {"name": "Mr. Channels"})
    )


def test_presence_member_is_the_signed_in_user_when_there_is_no_channel_data() -> None:
    """pusher-js sends auth alone after a signin: id and info are the signin's."""
    who = speaker(user_id="7", user_info={"name": "Ann"})
    assert told(judged(signed("presence-x"), who, PUSHER)) == admission(
        PLAIN_GRANT, member=("7", {"name": "Ann"})
    )


def test_presence_channel_is_refused_when_nobody_is_named() -> None:
    """A token's subject is not a member of a channel that only its signature opens."""
    reason = (401, "a presence channel needs channel_data")
    assert refusal(signed("presence-x"), speaker(STAFF), PUSHER) == reason


def test_presence_channel_is_refused_when_user_info_cannot_be_sent_on() -> None:
    """What can be read but not written again must not fail where others wait for it."""
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    for who, data in ((speaker(), {"user_id": 1, "user_info": deep}), (speaker(user_id="1"), None)):
        informed = Speaker(APP, SOCKET_ID, None, who.user_id, deep, may_yet_authenticate=True)
        assert refusal(signed("presence-x", data), informed, PUSHER) == (
            403,
            "user_info is nested too deeply",
        )


# --- by signature --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "channel, grant",
    [
        ("private-grand.rooms", ROOMS),
        ("private-guest-booking.7", Grant(any_hotel="guest", no_hotel="guest")),
    ],
)
@pytest.mark.parametrize("who", [speaker(), speaker(waits=False), speaker(staff("sea-view"))])
def test_signature_admits_to_one_channel_with_the_least_view(
    channel: str, grant: Grant, who: Speaker
) -> None:
    """The backend answers for whom it signed: the least view, however the socket is known."""
    assert told(judged(signed(channel), who)) == admission(grant)


def test_signature_with_a_token_behind_it_grants_what_the_token_may() -> None:
    """Signed claims are a principal: its roles give the view, and its end is kept."""
    claims = staff("grand", roles=["finance"]).claims()
    data = {"user_id": "staff-1", "user_info": {"name": "Z"}, "bellhop": claims}
    assert told(judged(signed("private-grand.rooms", data), speaker())) == admission(
        Grant(views=(("grand", "finance"),)), expires_at=NOW + 3600
    )
    assert told(judged(signed("presence-grand.desk", data), speaker())) == admission(
        ROOMS, member=("staff-1", {"name": "Z"}), expires_at=NOW + 3600
    )


def test_signature_with_a_token_behind_it_is_refused_when_the_token_may_not() -> None:
    """A signature never gives more than the claims that it covers."""
    data = {"user_id": "staff-1", "bellhop": staff("sea-view").claims()}
    assert refusal(signed("private-grand.rooms", data), speaker(STAFF)) == (
        403,
        "the token does not name the hotel grand",
    )


@pytest.mark.parametrize(
    "command, reason",
    [
        (Subscribe("private-grand.rooms", "nonsense"), "auth must have the form KEY:SIGNATURE"),
        (
            signed("private-grand.rooms", app=App("2", "other-key", "app-secret")),
            "auth was made with the key of another app",
        ),
        (
            signed("private-grand.rooms", app=App("1", "app-key", "other")),
            "auth signature does not match",
        ),
        (signed("private-grand.rooms", socket_id="12.35"), "auth signature does not match"),
        (
            Subscribe("private-grand.rooms", signed("private-sea-view.rooms").auth),
            "auth signature does not match",
        ),
        (
            Subscribe("private-grand.rooms", signed("private-grand.rooms").auth, '{"user_id":1}'),
            "auth signature does not match",
        ),
        (
            Subscribe("private-grand.rooms", signed("private-grand.rooms", {"user_id": 1}).auth),
            "auth signature does not match",
        ),
        (
            Subscribe("private-grand.rooms", signed("private-grand.rooms").auth, ""),
            "auth signature does not match",
        ),
    ],
)
def test_signature_is_refused_when_it_is_not_of_this_very_subscribe(
    command: Subscribe, reason: str
) -> None:
    """Another app, socket, channel or channel_data makes it worthless, whoever speaks."""
    for who in (speaker(), speaker(STAFF)):
        assert refusal(command, who) == (401, reason)


@pytest.mark.parametrize(
    "data, reason",
    [
        ("x", "channel_data is not JSON"),
        ("[]", "channel_data must be an object"),
        ({}, "user_id in channel_data must be a string or a whole number"),
        ({"user_id": 1.5}, "user_id in channel_data must be a string or a whole number"),
        ({"user_id": 10**30}, "user_id in channel_data must be a string or a whole number"),
        ({"user_id": "1", "bellhop": []}, "bellhop in channel_data must be an object"),
        ({"user_id": "1", "bellhop": {}}, 'claim "exp" is missing'),
        ({"user_id": "1", "bellhop": {"exp": NOW}}, "the token has expired"),
    ],
)
def test_signature_is_refused_when_what_it_covers_makes_no_sense(data: Any, reason: str) -> None:
    """The app signed it, but it names nobody, or a token that has ended."""
    assert refusal(signed("private-grand.rooms", data), speaker()) == (403, reason)


def test_signed_principal_is_the_user_of_the_data_and_never_one_of_the_claims() -> None:
    """`sub` is the signed user's; a `sub` among the claims does not replace it."""
    claims = {"exp": NOW + 1, "sub": "boss", "hotels": ["grand"]}
    found = signed_principal("12", claims, NOW)
    assert found is not None
    assert (found.sub, found.staff_id, found.exp) == ("12", "12", NOW + 1)
    assert signed_principal("12", None, NOW) is None
    with pytest.raises(AuthError, match="the token has expired"):
        signed_principal("12", claims, NOW + 1)
    with pytest.raises(TokenInvalid):
        signed_principal("12", {"exp": "soon"}, NOW)


# --- a user's own channel ------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [STRICT, PUSHER])
def test_own_user_channel_is_the_signed_in_users_alone(rules: Rules) -> None:
    """Others are refused, before the signin it waits; a token's subject is told to sign in."""
    channel = "#server-to-user-12"
    reason = (403, "the channel is of another user")
    assert judged(channel, speaker(), rules) is None
    assert told(judged(channel, speaker(user_id="12"), rules)) == admission(
        PLAIN_GRANT, proven=False
    )
    assert refusal(channel, speaker(user_id="1"), rules) == reason
    assert refusal(channel, speaker(user_id="12\n"), rules) == reason
    unsigned = (403, "the channel needs a signin (pusher:signin), and nobody has signed in")
    assert refusal(channel, speaker(principal("12"), waits=False), rules) == unsigned
    assert refusal("#server-to-user-", speaker(STAFF, waits=False), rules) == unsigned

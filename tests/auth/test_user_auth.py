import pusher
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from auth.apps import App
from auth.channel_auth import sign_channel
from auth.errors import AuthError, SignatureInvalid
from auth.user_auth import (
    UserData,
    looks_like_jwt,
    parse_signed_user,
    parse_user_data,
    sign_user,
    verify_user,
)
from tests.auth.keys import hs256

APP = App("3", "278d425bdf160c739803", "7ad3773142a6692b25b8")
VECTOR = "278d425bdf160c739803:4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba"

socket_ids = st.from_regex(r"[0-9]{1,10}\.[0-9]{1,10}", fullmatch=True)


def test_user_signature_agrees_with_pushers_documentation() -> None:
    """The documented vector is made, and accepted."""
    assert sign_user(APP, "1234.1234", '{"id":"12345"}') == VECTOR
    verify_user(APP, "1234.1234", VECTOR, '{"id":"12345"}')


@pytest.mark.parametrize(
    "user", [{"id": "12"}, {"id": "12", "user_info": {"name": "Zoë"}, "watchlist": ["13", "14"]}]
)
def test_user_signature_agrees_with_the_released_library(user: dict[str, object]) -> None:
    """What a backend signs with Pusher's own library is accepted, and is what we would sign."""
    client = pusher.Pusher(app_id=APP.id, key=APP.key, secret=APP.secret)
    answer = client.authenticate_user("12.34", user)
    verify_user(APP, "12.34", answer["auth"], answer["user_data"])
    assert sign_user(APP, "12.34", answer["user_data"]) == answer["auth"]
    assert parse_user_data(answer["user_data"]).id == "12"


@given(
    signed=st.tuples(socket_ids, st.text(max_size=40)),
    presented=st.tuples(socket_ids, st.text(max_size=40)),
)
def test_user_signature_signs_in_nobody_else(
    signed: tuple[str, str], presented: tuple[str, str]
) -> None:
    """Another socket or another user needs another signature."""
    assume(signed != presented)
    auth = sign_user(APP, *signed)
    verify_user(APP, signed[0], auth, signed[1])
    with pytest.raises(SignatureInvalid):
        verify_user(APP, presented[0], auth, presented[1])


@given(socket_id=socket_ids, data=st.text(max_size=40))
def test_user_signature_is_no_channel_signature(socket_id: str, data: str) -> None:
    """An authorization for a channel never signs a user in."""
    auth = sign_channel(APP, socket_id, "private-user", data)
    with pytest.raises(SignatureInvalid):
        verify_user(APP, socket_id, auth, data)


@pytest.mark.parametrize(
    "auth, reason",
    [
        ("", "auth must have the form KEY:SIGNATURE"),
        (VECTOR.replace("278d", "0000"), "auth was made with the key of another app"),
        (VECTOR[:-1], "auth signature does not match"),
        (VECTOR + "0", "auth signature does not match"),
    ],
)
def test_user_signature_is_refused(auth: str, reason: str) -> None:
    """Key and signature are both checked."""
    with pytest.raises(SignatureInvalid) as caught:
        verify_user(APP, "1234.1234", auth, '{"id":"12345"}')
    assert caught.value.reason == reason


def test_user_signature_needs_a_socket_id() -> None:
    """A socket id with a colon inside is not signed for, nor accepted."""
    with pytest.raises(SignatureInvalid, match="socket_id must be two numbers"):
        sign_user(APP, "1.2:x", "{}")
    with pytest.raises(SignatureInvalid, match="socket_id must be two numbers"):
        verify_user(APP, "1.2:x", VECTOR, "{}")


@pytest.mark.parametrize(
    "text, expected",
    [
        ('{"id":"12345"}', UserData("12345", None, (), None)),
        ('{"id":12345}', UserData("12345", None, (), None)),
        (
            '{"id":"a","user_info":{"name":"A"},"watchlist":["b","c"],"bellhop":{"exp":1}}',
            UserData("a", {"name": "A"}, ("b", "c"), {"exp": 1}),
        ),
        ('{"id":"a","watchlist":null,"bellhop":null}', UserData("a", None, (), None)),
        ('{"id":"a","watchlist":[]}', UserData("a", None, (), None)),
    ],
)
def test_user_data_is_read(text: str, expected: UserData) -> None:
    """The id becomes text; everything else is optional."""
    assert parse_user_data(text) == expected


def test_user_data_keeps_a_long_watchlist() -> None:
    """Pusher signs in a user who watches too many: the list is not judged here."""
    entries = ",".join(f'"{number}"' for number in range(500))
    assert len(parse_user_data(f'{{"id":"a","watchlist":[{entries}]}}').watchlist) == 500


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "user_data is not JSON"),
        ("null", "user_data must be an object"),
        ("{}", "id in user_data must be a string or a whole number"),
        ('{"id":""}', "id in user_data must not be empty"),
        ('{"id":false}', "id in user_data must be a string or a whole number"),
        ('{"id":1e3}', "id in user_data must be a string or a whole number"),
        ('{"id":"a","watchlist":"b"}', "watchlist in user_data must be a list"),
        ('{"id":"a","watchlist":[7]}', "an entry of watchlist in user_data must be a string"),
        ('{"id":"a","watchlist":[""]}', "an entry of watchlist in user_data must not be empty"),
        ('{"id":"a","bellhop":"b"}', "bellhop in user_data must be an object"),
    ],
)
def test_user_data_is_refused(text: str, reason: str) -> None:
    """Every refusal says what is wrong with the data."""
    with pytest.raises(AuthError) as caught:
        parse_user_data(text)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "text, expected",
    [
        ('{"id":"A-z_0=@,.;9"}', UserData("A-z_0=@,.;9", None, (), None)),
        (f'{{"id":"{"x" * 128}"}}', UserData("x" * 128, None, (), None)),
        # This server's own answer to who holds a token: subjects are the issuer's affair.
        ('{"id":"auth0|1","bellhop":{"exp":1}}', UserData("auth0|1", None, (), {"exp": 1})),
    ],
)
def test_signed_user_may_be_sent_events(text: str, expected: UserData) -> None:
    """The id has the characters of channels' names, for `#server-to-user-` stands before it."""
    assert parse_signed_user(text) == expected


_CHARACTERS = "id in user_data may have A-Z a-z 0-9 _ - = @ , . ; alone, as channel names"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("null", "user_data must be an object"),
        ("{}", "id in user_data must be a string"),
        ('{"id":12345}', "id in user_data must be a string"),
        ('{"id":12345,"bellhop":{"exp":1}}', "id in user_data must be a string"),
        ('{"id":""}', "id in user_data must not be empty"),
        (f'{{"id":"{"x" * 129}"}}', "id in user_data is longer than 128 characters"),
        *((f'{{"id":"{each}"}}', _CHARACTERS) for each in ("a b", "a/b", "é", "#x", "auth0|1")),
        ('{"id":"a","watchlist":"b"}', "watchlist in user_data must be a list"),
    ],
)
def test_signed_user_is_refused_who_could_not_be_sent_events(text: str, reason: str) -> None:
    """Nor is one taken whose id pusher-js would not: it forgets a user whose id is no string."""
    with pytest.raises(AuthError) as caught:
        parse_signed_user(text)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "auth, expected",
    [
        (hs256({}), True),
        (VECTOR, False),
        ("", False),
        ("a.b", False),
        ("a.b.c.d", False),
        ("key.with.dots:0123", False),
    ],
)
def test_looks_like_jwt_tells_tokens_from_signatures(auth: str, expected: bool) -> None:  # noqa: FBT001
    """Three segments are a token; whatever has a colon is a signature, even of a dotted key."""
    assert looks_like_jwt(auth) is expected

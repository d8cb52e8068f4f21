import time

import pusher
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth import signatures
from auth.errors import SignatureInvalid

SECRET = "7ad3773142a6692b25b8"
# Lone surrogates too: whatever a peer sends must be answered.
anything = st.text(st.characters(exclude_categories=[]))


@pytest.mark.parametrize(
    "message, expected",
    [
        (
            "1234.1234:private-foobar",
            "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4",
        ),
        (
            (
                "POST\n/apps/3/events\nauth_key=278d425bdf160c739803&auth_timestamp=1353088179"
                "&auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f"
            ),
            "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
        ),
    ],
    ids=["channel", "request"],
)
def test_sign_agrees_with_pushers_documentation(message: str, expected: str) -> None:
    """The documented vectors come out digit for digit."""
    assert signatures.sign(SECRET, message) == expected
    assert signatures.matches(SECRET, message, expected)


@given(secret=anything, message=anything)
def test_matches_accepts_what_sign_made(secret: str, message: str) -> None:
    """A signature is always recognized by its own secret and message."""
    assert signatures.matches(secret, message, signatures.sign(secret, message))


@given(message=anything, signature=anything)
def test_matches_refuses_any_other_text(message: str, signature: str) -> None:
    """No text but the signature matches, and none raises."""
    assert not signatures.matches(SECRET, message, signature)


@pytest.mark.parametrize("signature", ["", "é", "\ud800", "x" * 100_000, "\x00"])
def test_matches_refuses_when_the_signature_is_odd(signature: str) -> None:
    """Empty, non-ASCII, unencodable and huge signatures are only wrong."""
    assert not signatures.matches(SECRET, "message", signature)


def test_matches_refuses_upper_case() -> None:
    """One signature has one spelling."""
    assert not signatures.matches(SECRET, "message", signatures.sign(SECRET, "message").upper())


@given(given_text=anything, expected=anything)
def test_same_compares_any_two_texts(given_text: str, expected: str) -> None:
    """Two texts are the same or not, whatever they hold; none raises."""
    assert signatures.same(given_text, given_text)
    assert signatures.same(given_text, expected) is (given_text == expected)


def test_sign_is_accepted_as_a_webhook_by_the_released_library() -> None:
    """A webhook body signed here is believed by Pusher's own library."""
    client = pusher.Pusher(app_id="3", key="key", secret=SECRET)
    body = f'{{"time_ms": {int(time.time() * 1000)}, "events": []}}'
    accepted = client.validate_webhook("key", signatures.sign(SECRET, body), body)
    assert accepted is not None
    assert accepted["events"] == []


def test_key_and_signature_is_checked_by_its_counterpart() -> None:
    """What is made for a key and a message is accepted for both, even with a colon in the key."""
    for key in ("key", "a:b"):
        auth = signatures.key_and_signature(key, SECRET, "message")
        signatures.check_key_and_signature(key, SECRET, "message", auth)


@pytest.mark.parametrize(
    "auth, reason",
    [
        ("", "auth must have the form KEY:SIGNATURE"),
        ("key", "auth must have the form KEY:SIGNATURE"),
        (signatures.sign(SECRET, "message"), "auth must have the form KEY:SIGNATURE"),
        (f":{signatures.sign(SECRET, 'message')}", "auth was made with the key of another app"),
        (f"kez:{signatures.sign(SECRET, 'message')}", "auth was made with the key of another app"),
        (f"key:{signatures.sign(SECRET, 'other')}", "auth signature does not match"),
        (f"key:{signatures.sign('other', 'message')}", "auth signature does not match"),
        ("key:", "auth signature does not match"),
        ("key:é", "auth signature does not match"),
    ],
)
def test_check_key_and_signature_refuses(auth: str, reason: str) -> None:
    """Key and signature are both checked, and the reason names the one that failed."""
    with pytest.raises(SignatureInvalid) as caught:
        signatures.check_key_and_signature("key", SECRET, "message", auth)
    assert caught.value.reason == reason


@pytest.mark.parametrize("socket_id", ["1.2", "1234.1234", "0.0", f"{'9' * 20}.1"])
def test_require_socket_id_accepts(socket_id: str) -> None:
    """Two numbers and a dot are a socket id."""
    signatures.require_socket_id(socket_id)


@pytest.mark.parametrize(
    "socket_id",
    ["", "1", "1.", ".2", "1.2.3", "1.2\n", " 1.2", "1.2:private-x", "-1.2", "１.２", "a.b"],
)
def test_require_socket_id_refuses(socket_id: str) -> None:
    """Nothing else is, and least of all what has a colon."""
    with pytest.raises(SignatureInvalid) as caught:
        signatures.require_socket_id(socket_id)
    assert caught.value.reason == "socket_id must be two numbers joined by a dot"

"""What attackers send for a token: none of it is accepted, and none of it raises anything else."""

import json
import string

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from auth.errors import TokenInvalid
from auth.tokens import TokenSigner, TokenVerifier, hmac_key, public_key
from tests.auth.keys import (
    CLAIMS,
    NOW,
    OTHER_SECRET,
    SECRET,
    forge,
    hs256,
    key_pair,
    segment,
)

MALFORMED = "token is malformed"
MISMATCH = "token signature does not match"
TWICE = "token has the same name twice in one object"


def verifier() -> TokenVerifier:
    """Accept HS, RS, ES and EdDSA tokens: the widest door there is."""
    return TokenVerifier(
        [
            hmac_key(SECRET),
            public_key(key_pair("rsa").public),
            public_key(key_pair("p256").public),
            public_key(key_pair("ed25519").public),
        ]
    )


def refusal(token: str, by: TokenVerifier | None = None) -> str:
    """Return the reason for which the token is refused."""
    with pytest.raises(TokenInvalid) as caught:
        (by or verifier()).verify(token, NOW)
    assert caught.value.reason == str(caught.value)
    return caught.value.reason


def unsigned(algorithm: object, signature: str = "") -> str:
    """Put a token together without any key."""
    return f"{segment({'alg': algorithm, 'typ': 'JWT'})}.{segment(CLAIMS)}.{signature}"


def attacker_jwk() -> dict[str, object]:
    """Return the attacker's own public key, as a header would carry it."""
    key = load_pem_public_key(key_pair("other-rsa").public.encode())
    made: dict[str, object] = jwt.get_algorithm_by_name("RS256").to_jwk(key, as_dict=True)
    return made


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "nonE"])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_token_without_a_signature_is_refused(name: str, signature: str) -> None:
    """`alg: none` is no algorithm, however it is written."""
    assert refusal(unsigned(name, signature)) == f"algorithm {name} is not accepted"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("variant", ["as published", "stripped", "without line ends", "der"])
def test_token_signed_with_the_public_key_as_secret_is_refused(
    algorithm: str, variant: str
) -> None:
    """A public key never serves as an HMAC secret: not alone, and not beside a real one."""
    public = key_pair("rsa").public
    secret = {
        "as published": public,
        "stripped": public.strip(),
        "without line ends": public.replace("\n", ""),
        "der": "".join(public.splitlines()[1:-1]),
    }[variant]
    # PyJWT refuses to sign with a PEM, so the token is put together by hand.
    token = forge({"alg": algorithm}, CLAIMS, secret)
    only_rsa = TokenVerifier([public_key(public)])
    assert refusal(token, only_rsa) == f"algorithm {algorithm} is not accepted"
    assert refusal(token) == MISMATCH


@pytest.mark.parametrize(
    "algorithm", ["HS1", "hs256", "HS256 ", "ES512", "A128KW", "dir", "RSA-OAEP", "Ed25519"]
)
def test_token_of_another_algorithm_is_refused(algorithm: str) -> None:
    """The set of algorithms is closed; its names have one spelling."""
    reason = refusal(forge({"alg": algorithm}))
    named = f"algorithm {algorithm} is not accepted"
    assert reason == (named if algorithm.isalnum() else MALFORMED)


@pytest.mark.parametrize(
    "algorithm", [None, 7, True, ["HS256"], {"HS256": 1}, "", "x" * 17, "HS256\n", "<script>"]
)
def test_token_whose_algorithm_is_no_name_is_refused(algorithm: object) -> None:
    """Nothing of an odd header comes back in the reason."""
    assert refusal(forge({"alg": algorithm})) == MALFORMED
    assert refusal(forge({})) == MALFORMED


def test_token_whose_header_names_another_algorithm_of_the_key_is_refused() -> None:
    """The algorithm that is checked is the one that the header names, and no other."""
    _, claims, signature = TokenSigner(key_pair("rsa").private, "RS256").sign(CLAIMS).split(".")
    for algorithm in ("RS384", "RS512", "PS256", "HS256"):
        token = f"{segment({'alg': algorithm})}.{claims}.{signature}"
        assert refusal(token) == MISMATCH


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": attacker_jwk},
        {"jku": "https://attacker.example/keys.json"},
        {"x5u": "https://attacker.example/cert.pem"},
        {"x5c": ["AAAA"]},
        {"jwk": attacker_jwk, "jku": "https://attacker.example", "kid": "k"},
        {"kid": "https://attacker.example/keys.json"},
    ],
    ids=["jwk", "jku", "x5u", "x5c", "all", "kid"],
)
def test_token_that_brings_its_own_key_is_refused(header: dict[str, object]) -> None:
    """A key in, or behind, the header is not read."""
    made = {name: value() if callable(value) else value for name, value in header.items()}
    token = jwt.encode(CLAIMS, key_pair("other-rsa").private, "RS256", made)
    assert refusal(token) == MISMATCH


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/dev/null",
        "' OR 1=1 --",
        "k1\x00",
        "K1",
        "",
        "x" * 4000,
        "| sleep 9",
    ],
)
def test_token_with_a_hostile_key_id_is_refused(kid: str) -> None:
    """A key id is compared and nothing else, and does not come back in the reason."""
    named = TokenVerifier([hmac_key(SECRET, "k1"), hmac_key(OTHER_SECRET, "k2")])
    for secret in (SECRET, "", "\x00"):
        reason = refusal(forge({"alg": "HS256", "kid": kid}, CLAIMS, secret), named)
        assert reason == "token names a key that is not known here"


@pytest.mark.parametrize("kid", [None, 7, True, ["k1"], {"k1": 1}])
def test_token_whose_key_id_is_no_string_is_refused(kid: object) -> None:
    """An id of another type is malformed, even with the right signature."""
    assert refusal(forge({"alg": "HS256", "kid": kid})) == MALFORMED


def test_token_signed_by_another_key_than_it_names_is_refused() -> None:
    """Naming a good key does not help a signature of another."""
    named = TokenVerifier([hmac_key(SECRET, "k1"), hmac_key(OTHER_SECRET, "k2")])
    assert refusal(forge({"alg": "HS256", "kid": "k2"}), named) == MISMATCH


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], None, "exp", [7]])
def test_token_with_critical_extensions_is_refused(crit: object) -> None:
    """Who marks an extension critical asks to be refused by who does not know it."""
    token = forge({"alg": "HS256", "crit": crit, "b64": False, "exp": 1})
    assert refusal(token) == "token has critical header extensions, which are not accepted"


def test_token_with_a_detached_payload_is_refused() -> None:
    """The payload is what stands in the token, encoded."""
    assert refusal(forge({"alg": "HS256", "b64": False})) == MALFORMED


@pytest.mark.parametrize(
    "octets", [b"\x00" * 64, b"\x00", b"", b"\xff" * 64, b"\x00" * 63 + b"\x01"]
)
def test_token_with_a_blank_signature_is_refused(octets: bytes) -> None:
    """Zeros and ones are a signature in no algorithm."""
    for algorithm in ("HS256", "RS256", "PS256", "ES256", "EdDSA"):
        assert refusal(unsigned(algorithm, segment(octets))) == MISMATCH


@pytest.mark.parametrize(
    "name, algorithm", [("rsa", "RS256"), ("p256", "ES256"), ("ed25519", "EdDSA")]
)
def test_token_with_the_signature_of_another_token_is_refused(name: str, algorithm: str) -> None:
    """Header, claims and signature belong together."""
    signer = TokenSigner(key_pair(name).private, algorithm)
    mine = signer.sign(CLAIMS).split(".")
    other = signer.sign({**CLAIMS, "sub": "admin"}).split(".")
    assert verifier().verify(".".join(mine), NOW).sub == "staff-12"
    assert refusal(".".join([mine[0], other[1], mine[2]])) == MISMATCH


@pytest.mark.parametrize(
    "claims, reason",
    [
        ('{"sub":"a","sub":"b","exp":9e9}', TWICE),
        ('{"sub":"a","exp":1,"exp":9e9}', TWICE),
        ('{"sub":"a","exp":9e9,"hotels":[{"slug":"a","slug":"b"}]}', TWICE),
        ('{"sub":"a","exp":9e9,"x":{"y":[{"z":1,"z":1}]}}', TWICE),
        ('{"sub":"a","\\u0073ub":"b","exp":9e9}', TWICE),
        ('{"sub":"a","exp":NaN}', MALFORMED),
        ('{"sub":"a","exp":Infinity}', MALFORMED),
        ('{"sub":"a","exp":9e9,"x":-Infinity}', MALFORMED),
        ('{"sub":"a","exp":1e999}', 'claim "exp" must be a finite number'),
        ('{"sub":"a","exp":"9e9"}', 'claim "exp" must be a number'),
        ('{"sub":"a","exp":true}', 'claim "exp" must be a number'),
        ('{"sub":"a","exp":[9e9]}', 'claim "exp" must be a number'),
        ('{"sub":"a","exp":null}', 'claim "exp" is missing'),
        ('{"sub":"a"}', 'claim "exp" is missing'),
        (f'{{"sub":"a","exp":{"9" * 400}}}', 'claim "exp" must be a finite number'),
        (f'{{"sub":"a","exp":{"9" * 5000}}}', MALFORMED),
        (f'{{"sub":{"9" * 400},"exp":9e9}}', 'claim "sub" is longer than 128 characters'),
        ('{"sub":"a","exp":9e9,"nbf":"0"}', 'claim "nbf" must be a number'),
        ('{"sub":"a","exp":9e9,"nbf":false}', 'claim "nbf" must be a number'),
        ('{"sub":"a","exp":9e9,"iat":"0"}', 'claim "iat" must be a number'),
        ('{"sub":"\\ud800","exp":9e9}', 'claim "sub" contains a character that is not allowed'),
        ('{"sub":"a\\nb","exp":9e9}', 'claim "sub" contains a character that is not allowed'),
        ("[]", MALFORMED),
        ('"claims"', MALFORMED),
        ("null", MALFORMED),
        ("7", MALFORMED),
        ("{", MALFORMED),
        ("{}x", MALFORMED),
        ("", MALFORMED),
        ('{"sub":"a","exp":9e9,"x":' + "[" * 5000, MALFORMED),
        ('{"sub":"a","exp":9e9,"x":' + "[" * 2500 + "]" * 2500 + "}", MALFORMED),
        (b'{"sub":"a\xff","exp":9e9}', MALFORMED),
        (b'\xef\xbb\xbf{"sub":"a","exp":9e9}', MALFORMED),
        ('{"sub":"a","exp":9e9}'.encode("utf-16"), MALFORMED),
        ('{"sub":"a","exp":9e9}'.encode("utf-16-le"), MALFORMED),
        ('{"sub":"a","exp":9e9}'.encode("utf-32"), MALFORMED),
    ],
    ids=range(36),
)
def test_token_with_odd_claims_is_refused(claims: str | bytes, reason: str) -> None:
    """Even with the right signature, claims that two readers could read differently are refused."""
    assert refusal(hs256(claims)) == reason


@pytest.mark.parametrize(
    "header, reason",
    [
        ('{"alg":"none","alg":"HS256"}', TWICE),
        ('{"alg":"HS256","kid":"a","kid":"b"}', TWICE),
        ('{"alg":"HS256","x":NaN}', MALFORMED),
        ('["HS256"]', MALFORMED),
        ('"HS256"', MALFORMED),
        ("null", MALFORMED),
        ("{", MALFORMED),
        (b"\xff", MALFORMED),
        (b'\xef\xbb\xbf{"alg":"HS256"}', MALFORMED),
        ('{"alg":"HS256"}'.encode("utf-16-be"), MALFORMED),
        ('{"alg":"HS256","x":' + "[" * 5000, MALFORMED),
    ],
    ids=range(11),
)
def test_token_with_an_odd_header_is_refused(header: str | bytes, reason: str) -> None:
    """A header is one JSON object whose names are told apart."""
    assert refusal(forge(header)) == reason


GOOD = TokenSigner(SECRET).sign(CLAIMS)
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        f"{HEADER}.{PAYLOAD}",
        f"{HEADER}..{SIGNATURE}",
        f".{PAYLOAD}.{SIGNATURE}",
        f"{GOOD}.",
        f"{GOOD}.{SIGNATURE}",
        f"{GOOD}.{SIGNATURE}.{SIGNATURE}",
        f".{GOOD}",
        f"{GOOD}\n",
        f" {GOOD}",
        f"Bearer {GOOD}",
        f"{GOOD}=",
        f"{HEADER}==.{PAYLOAD}.{SIGNATURE}",
        f"{HEADER}.{PAYLOAD}=.{SIGNATURE}",
        f"{HEADER}\x00.{PAYLOAD}.{SIGNATURE}",
        f"{HEADER}é.{PAYLOAD}.{SIGNATURE}",
        f"{HEADER}\ud800.{PAYLOAD}.{SIGNATURE}",
        f"A.{PAYLOAD}.{SIGNATURE}",
        f"{HEADER}.{PAYLOAD}.A",
        "undefined",
        "null",
        "[object Object]",
    ],
    ids=range(25),
)
def test_token_of_another_shape_is_refused(token: str) -> None:
    """Three segments of base64url without padding are a token; nothing around them is trimmed."""
    assert refusal(token) == MALFORMED


def test_token_stripped_of_its_signature_is_refused() -> None:
    """An empty signature matches nothing."""
    assert refusal(f"{HEADER}.{PAYLOAD}.") == MISMATCH


def test_token_is_refused_when_it_is_huge() -> None:
    """Over 8192 characters nothing is parsed; up to there a good token is good."""
    reason = "token is longer than 8192 characters"
    assert refusal("x" * 8193) == reason
    assert refusal("." * 10_000_000) == reason
    assert refusal(hs256({**CLAIMS, "x": "y" * 8192})) == reason
    padding = (8192 - len(hs256({**CLAIMS, "x": ""}))) * 3 // 4
    largest = hs256({**CLAIMS, "x": "y" * padding})
    assert 8185 < len(largest) <= 8192
    assert verifier().verify(largest, NOW).sub == "staff-12"


def test_token_refusal_shows_nothing_of_the_token() -> None:
    """A reason that goes to a peer and into logs holds no part of a token."""
    for token in (GOOD[:-2] + "AA", f"{GOOD}x", GOOD.replace(".", "!"), hs256("secret-claims")):
        reason = refusal(token)
        assert not any(part in reason for part in token.split(".") if len(part) > 3)
        assert "secret" not in reason


SIGNERS = {
    "HS256": TokenSigner(SECRET),
    "RS256": TokenSigner(key_pair("rsa").private, "RS256"),
    "ES256": TokenSigner(key_pair("p256").private, "ES256"),
    "EdDSA": TokenSigner(key_pair("ed25519").private, "EdDSA"),
}
SIGNED = {algorithm: signer.sign(CLAIMS) for algorithm, signer in SIGNERS.items()}
VERIFIER = verifier()
ALPHABET = string.ascii_letters + string.digits + "-_.=+/ é"


@pytest.mark.parametrize("algorithm", SIGNED)
def test_token_as_signed_is_accepted(algorithm: str) -> None:
    """The tokens that the next tests damage are good."""
    assert VERIFIER.verify(SIGNED[algorithm], NOW).sub == "staff-12"


@given(st.sampled_from(sorted(SIGNED)), st.data())
def test_token_with_one_character_changed_is_refused(algorithm: str, data: st.DataObject) -> None:
    """No other character in any place gives a token that is accepted: not even unused bits."""
    token = SIGNED[algorithm]
    place = data.draw(st.integers(0, len(token) - 1))
    char = data.draw(st.sampled_from([char for char in ALPHABET if char != token[place]]))
    refusal(f"{token[:place]}{char}{token[place + 1 :]}", VERIFIER)


@given(st.sampled_from(sorted(SIGNED)), st.integers(0, 400), st.integers(1, 400))
def test_token_with_a_piece_cut_out_is_refused(algorithm: str, start: int, length: int) -> None:
    """A shorter token is another token."""
    token = SIGNED[algorithm]
    cut = start % len(token)
    refusal(token[:cut] + token[cut + length :], VERIFIER)


@pytest.mark.parametrize("algorithm", SIGNED)
def test_token_has_one_spelling(algorithm: str) -> None:
    """The last character's unused bits cannot be set: a token that was revoked stays that token."""
    token = SIGNED[algorithm]
    for char in ALPHABET:
        if char != token[-1]:
            refusal(token[:-1] + char, VERIFIER)


@given(st.text(st.characters(exclude_categories=[])) | st.text("ey.AB-_", max_size=60))
def test_token_of_random_text_is_refused(token: str) -> None:
    """Any text at all is refused with TokenInvalid and nothing else."""
    refusal(token, VERIFIER)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
HEADER_NAMES = ["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5u", "zip", "cty", "enc"]
headers = st.dictionaries(
    st.sampled_from(HEADER_NAMES),
    json_values | st.sampled_from(["HS256", "RS256", "ES256", "EdDSA", "none"]),
)


@given(headers, json_values)
def test_token_signed_with_another_secret_is_refused(header: object, claims: object) -> None:
    """Whatever header and claims say, without the key there is no way in."""
    refusal(forge(json.dumps(header), json.dumps(claims), OTHER_SECRET), VERIFIER)

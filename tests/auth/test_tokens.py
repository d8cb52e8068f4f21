from collections.abc import Callable

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.errors import TokenExpired, TokenInvalid, UnknownKey
from auth.principal import ClaimNames, Kind, principal_from_claims
from auth.tokens import (
    TokenSigner,
    TokenVerifier,
    VerificationKey,
    hmac_key,
    public_key,
)
from tests.auth.keys import ASYMMETRIC, CLAIMS, NOW, OTHER_SECRET, SECRET, forge, hs256, key_pair


def refusal(token: str, verifier: TokenVerifier, now: float = NOW) -> str:
    """Return the reason for which the token is refused."""
    with pytest.raises(TokenInvalid) as caught:
        verifier.verify(token, now)
    return caught.value.reason


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("secret", ["x" * 32, SECRET, "x" * 64, "x" * 200, "ключ" * 10])
def test_verifier_accepts_what_a_backend_signs_with_the_shared_secret(
    algorithm: str, secret: str
) -> None:
    """Every HS algorithm works with every secret of 32 bytes or more, and without a warning."""
    verifier = TokenVerifier([hmac_key(secret)])
    expected = principal_from_claims(CLAIMS)
    assert verifier.verify(TokenSigner(secret, algorithm).sign(CLAIMS), NOW) == expected
    token = forge({"alg": algorithm}, CLAIMS, secret, f"sha{algorithm[2:]}")
    assert verifier.verify(token, NOW) == expected


@pytest.mark.parametrize("name, algorithm", ASYMMETRIC)
def test_verifier_accepts_what_a_private_key_signs(name: str, algorithm: str) -> None:
    """A public key checks every algorithm of its kind, as PyJWT signs it and as we do."""
    pair = key_pair(name)
    key = public_key(pair.public)
    assert algorithm in key.algorithms
    for verifier in (TokenVerifier([key]), TokenVerifier([hmac_key(SECRET), key])):
        for token in (
            TokenSigner(pair.private, algorithm).sign(CLAIMS),
            jwt.encode(CLAIMS, pair.private, algorithm),
        ):
            assert verifier.verify(token, NOW).sub == "staff-12"


@pytest.mark.parametrize(
    "name, algorithms",
    [
        ("rsa", ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        ("p256", ("ES256",)),
        ("p384", ("ES384",)),
        ("p521", ("ES512",)),
        ("secp256k1", ("ES256K",)),
        ("ed25519", ("EdDSA",)),
        ("ed448", ("EdDSA",)),
    ],
)
def test_public_key_serves_the_algorithms_of_its_kind_only(
    name: str, algorithms: tuple[str, ...]
) -> None:
    """The set is closed when the key is loaded: no token can widen it."""
    key = public_key(key_pair(name).public, "a-kid")
    assert (key.algorithms, key.kid) == (algorithms, "a-kid")


@pytest.mark.parametrize(
    "pem, message",
    [
        (lambda: "", "not a PEM public key"),
        (lambda: "x" * 40, "not a PEM public key"),
        (lambda: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "not a PEM public"),
        (lambda: key_pair("rsa").private, "this is a private key"),
        (lambda: "-----BEGIN CERTIFICATE-----\nAAAA", "this is a certificate; extract its key"),
        (lambda: key_pair("short-rsa").public, "the RSA key has 1024 bits; it needs 2048 or more"),
        (lambda: key_pair("brainpool").public, "no token algorithm uses the curve brainpoolP256r1"),
        (lambda: key_pair("x25519").public, "no token algorithm uses this kind of key"),
        (lambda: key_pair("dsa").public, "no token algorithm uses this kind of key"),
    ],
    ids=["empty", "text", "broken", "private", "cert", "short", "curve", "x25519", "dsa"],
)
def test_public_key_refuses_saying_why(pem: Callable[[], str], message: str) -> None:
    """A key that cannot or should not verify tokens stops the start, with the way out."""
    with pytest.raises(ValueError, match=message):
        public_key(pem())


@pytest.mark.parametrize(
    "secret, message",
    [
        ("", "has 0 bytes; it needs 32 or more .*openssl rand -hex 32"),
        ("x" * 31, "has 31 bytes"),
        ("é" * 15, "has 30 bytes"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA", "is a PEM or SSH key"),
        ("  \n-----BEGIN RSA PRIVATE KEY-----", "is a PEM or SSH key"),
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC", "is a PEM or SSH key"),
        (" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE", "is a PEM or SSH key"),
        ("sk-ssh-ed25519@openssh.com AAAAGnNrLXNza", "is a PEM or SSH key"),
        ("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItb", "is a PEM or SSH key"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAAB3NzaC1yc2EAAA", "is a PEM or SSH key"),
        ('{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0"}', "is an encoded key"),
    ],
)
def test_hmac_key_refuses_saying_why(secret: str, message: str) -> None:
    """A short secret can be guessed, and a public key is known to all; the secret is not shown."""
    with pytest.raises(ValueError, match=message) as caught:
        hmac_key(secret)
    assert not secret or secret not in str(caught.value)


def test_hmac_key_refuses_every_public_key() -> None:
    """No PEM of any kind serves as a secret."""
    for name in ("rsa", "p256", "ed25519"):
        with pytest.raises(ValueError, match="configure it as the public key"):
            hmac_key(key_pair(name).public)


def test_verification_key_never_shows_its_secret() -> None:
    """A key in a log or a traceback keeps its secret."""
    assert repr(hmac_key(SECRET, "k")) == (
        "VerificationKey(algorithms=('HS256', 'HS384', 'HS512'), kid='k')"
    )


def test_verifier_refuses_everything_without_a_key() -> None:
    """No configuration is not a permission."""
    verifier = TokenVerifier([])
    for token in (hs256(CLAIMS), "", "a.b.c"):
        assert refusal(token, verifier) == "no token key is configured"


def test_verifier_accepts_several_keys_at_once() -> None:
    """While keys rotate, tokens of both are good, with or without key ids."""
    tokens = [TokenSigner(SECRET).sign(CLAIMS), TokenSigner(OTHER_SECRET).sign(CLAIMS)]
    for kids in [(None, None), ("old", "new"), (None, "new")]:
        keys = [
            hmac_key(secret, kid) for secret, kid in zip([SECRET, OTHER_SECRET], kids, strict=True)
        ]
        for token in tokens:
            assert TokenVerifier(keys).verify(token, NOW).sub == "staff-12"
    assert refusal(tokens[1], TokenVerifier([hmac_key(SECRET)])) == "token signature does not match"


@pytest.mark.parametrize(
    "kids, accepted, reason",
    [
        ((None, None), True, ""),
        (("a", "b"), True, ""),
        (("a", None), True, ""),
        ((None, "a"), False, "token signature does not match"),
        ((None, "b"), True, ""),
        (("b", "a"), False, "token signature does not match"),
        (("b", "c"), False, "token names a key that is not known here"),
        (("a", "a"), True, ""),
    ],
)
def test_verifier_narrows_by_key_id(
    kids: tuple[str | None, str | None],
    accepted: bool,  # noqa: FBT001 - a column of the table
    reason: str,
) -> None:
    """A token that names a key is checked by it, else by keys without an id, else by none."""
    keys = [hmac_key(SECRET, kids[0]), hmac_key(OTHER_SECRET, kids[1])]
    token = TokenSigner(SECRET, kid="a").sign(CLAIMS)
    if accepted:
        assert TokenVerifier(keys).verify(token, NOW).sub == "staff-12"
    else:
        assert refusal(token, TokenVerifier(keys)) == reason


def test_verifier_asks_its_source_of_keys_at_every_token() -> None:
    """Keys that come later are valid from then on, and those that went are not."""
    keys: list[VerificationKey] = []
    verifier = TokenVerifier(lambda: keys)
    token = TokenSigner(SECRET).sign(CLAIMS)
    assert refusal(token, verifier) == "no token key is configured"
    keys.append(hmac_key(SECRET))
    assert verifier.verify(token, NOW).sub == "staff-12"
    keys[:] = [hmac_key(OTHER_SECRET)]
    assert refusal(token, verifier) == "token signature does not match"


@pytest.mark.parametrize(
    "known, key, kid, unknown",
    [
        ([], "rsa", "a", True),
        ([], "rsa", None, True),
        ([("p256", "b")], "rsa", "a", True),
        ([("p256", "b")], "rsa", None, True),
        ([("rsa", "b")], "other-rsa", "a", True),
        ([("rsa", None)], "other-rsa", "a", True),
        ([("rsa", None)], "other-rsa", None, True),
        ([("rsa", None), ("p256", "b")], "other-rsa", None, True),
        ([("rsa", "b")], "other-rsa", None, False),
        ([("rsa", "a")], "other-rsa", "a", False),
        ([("p256", "a")], "rsa", "a", False),
        ([("rsa", "b"), ("rsa", "a")], "p256", "a", False),
    ],
)
def test_verifier_says_whether_a_newer_key_may_have_signed(
    known: list[tuple[str, str | None]],
    key: str,
    kid: str | None,
    unknown: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Only for a public key that is not among those at hand is it worth fetching them anew."""
    verifier = TokenVerifier([public_key(key_pair(name).public, id_) for name, id_ in known])
    algorithm = next(algorithm for pair, algorithm in ASYMMETRIC if pair in (key, key[-3:]))
    with pytest.raises(TokenInvalid) as caught:
        verifier.verify(TokenSigner(key_pair(key).private, algorithm, kid).sign(CLAIMS), NOW)
    assert (type(caught.value) is UnknownKey) == unknown


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS1", "A256KW"])
def test_verifier_never_wants_other_than_public_keys_fetched(algorithm: str) -> None:
    """A shared secret is never published, and what is no algorithm has no key."""
    verifier = TokenVerifier([public_key(key_pair("rsa").public, "a")])
    with pytest.raises(TokenInvalid) as caught:
        verifier.verify(forge({"alg": algorithm, "kid": "b"}), NOW)
    assert type(caught.value) is TokenInvalid


@pytest.mark.parametrize("leeway", [0.0, 30.0])
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_verifier_checks_times_within_its_leeway(claim: str, leeway: float) -> None:
    """A token is good from its `nbf` and `iat` until, and not at, its `exp`: each give or take."""
    verifier = TokenVerifier([hmac_key(SECRET)], leeway_s=leeway)
    early, reason = {
        "exp": (True, "token expired"),
        "nbf": (False, 'token is not valid yet (claim "nbf")'),
        "iat": (False, 'token was issued in the future (claim "iat"): compare the clocks'),
    }[claim]
    edge = NOW - leeway if early else NOW + leeway
    inside, outside = (edge + 1, edge) if early else (edge, edge + 1)
    assert verifier.verify(hs256({**CLAIMS, claim: inside}), NOW).sub == "staff-12"
    assert refusal(hs256({**CLAIMS, claim: outside}), verifier) == reason


def test_verifier_says_that_a_token_expired_only_if_it_was_good() -> None:
    """Expiry has its own type; a token that was never good has not expired."""
    verifier = TokenVerifier([hmac_key(SECRET)])
    expired = {**CLAIMS, "exp": NOW - 1}
    with pytest.raises(TokenExpired):
        verifier.verify(hs256(expired), NOW)
    for token in (hs256({**expired, "kind": "x"}), TokenSigner(OTHER_SECRET).sign(expired)):
        with pytest.raises(TokenInvalid) as caught:
            verifier.verify(token, NOW)
        assert type(caught.value) is TokenInvalid


@pytest.mark.parametrize("leeway", [-1.0, float("nan"), float("inf")])
def test_verifier_refuses_a_leeway_that_would_never_end(leeway: float) -> None:
    """With a leeway of no number or no end, no token would ever expire."""
    with pytest.raises(ValueError, match="leeway must be zero or more seconds"):
        TokenVerifier([], leeway_s=leeway)


@pytest.mark.parametrize(
    "claims, reason",
    [
        ({"iss": "hotel", "aud": "bellhop"}, None),
        ({"iss": "hotel", "aud": ["other", "bellhop"]}, None),
        ({"aud": "bellhop"}, 'claim "iss" is missing'),
        ({"iss": "hotel"}, 'claim "aud" is missing'),
        ({"iss": "hotel", "aud": []}, 'claim "aud" is missing'),
        ({"iss": "other", "aud": "bellhop"}, "token comes from another issuer"),
        ({"iss": "Hotel", "aud": "bellhop"}, "token comes from another issuer"),
        ({"iss": ["hotel"], "aud": "bellhop"}, "token comes from another issuer"),
        ({"iss": "hotel", "aud": "other"}, "token is meant for another audience"),
        ({"iss": "hotel", "aud": "bellhop2"}, "token is meant for another audience"),
        ({"iss": "hotel", "aud": ["other"]}, "token is meant for another audience"),
        ({"iss": "hotel", "aud": {"bellhop": 1}}, "token is meant for another audience"),
        ({"iss": "hotel", "aud": ["bellhop", 7]}, "token is meant for another audience"),
    ],
)
def test_verifier_checks_issuer_and_audience_when_set(
    claims: dict[str, object], reason: str | None
) -> None:
    """Both must be there and right; set neither and neither is looked at."""
    token = hs256({**CLAIMS, **claims})
    verifier = TokenVerifier([hmac_key(SECRET)], issuer="hotel", audience="bellhop")
    if reason is None:
        assert verifier.verify(token, NOW).sub == "staff-12"
    else:
        assert refusal(token, verifier) == reason
    assert TokenVerifier([hmac_key(SECRET)]).verify(token, NOW).sub == "staff-12"


def test_verifier_reads_claims_under_mapped_names() -> None:
    """The settings may name each claim; time checks follow them."""
    names = ClaimNames(sub="user_id", exp="until", kind="type")
    verifier = TokenVerifier([hmac_key(SECRET)], names=names)
    claims = {"user_id": 42, "until": NOW + 1, "type": "service", "exp": 0}
    read = verifier.verify(hs256(claims), NOW)
    assert (read.sub, read.kind) == ("42", Kind.SERVICE)
    assert refusal(hs256({**claims, "until": NOW}), verifier) == "token expired"


def test_verifier_reads_claims_inside_others() -> None:
    """An identity provider's own shape of token serves as it is."""
    names = ClaimNames(
        hotels="https://hotel.example/hotels", roles="realm_access.roles", staff_id="cognito:user"
    )
    claims = {
        **CLAIMS,
        "https://hotel.example/hotels": ["grand"],
        "realm_access": {"roles": ["manager", "offline_access"]},
        "cognito:user": "anna",
    }
    read = TokenVerifier([hmac_key(SECRET)], names=names).verify(hs256(claims), NOW)
    assert ([grant.slug for grant in read.hotels], [*read.roles], read.staff_id) == (
        ["grand"],
        ["manager"],
        "anna",
    )


def test_verifier_accepts_a_numeric_sub() -> None:
    """PyJWT alone would refuse the user id of many a backend."""
    assert TokenVerifier([hmac_key(SECRET)]).verify(hs256({**CLAIMS, "sub": 42}), NOW).sub == "42"


def test_signer_writes_its_key_id() -> None:
    """The header names the algorithm and, where there is one, the key."""
    header = jwt.get_unverified_header(TokenSigner(SECRET, "HS512", "k").sign(CLAIMS))
    assert header == {"alg": "HS512", "typ": "JWT", "kid": "k"}
    assert "kid" not in jwt.get_unverified_header(TokenSigner(SECRET).sign(CLAIMS))


@pytest.mark.parametrize(
    "key, algorithm, message",
    [
        (lambda: "short", "HS256", "has 5 bytes; it needs 32 or more"),
        (lambda: key_pair("rsa").private, "HS256", "is a PEM or SSH key"),
        (lambda: SECRET, "RS256", "not a PEM private key without a password"),
        (lambda: SECRET, "none", "not a PEM private key without a password"),
        (lambda: key_pair("rsa").public, "RS256", "not a PEM private key without a password"),
        (lambda: key_pair("rsa").private, "none", "this key signs RS256, .*, PS512, not none"),
        (lambda: key_pair("rsa").private, "ES256", "this key signs RS256, .*, not ES256"),
        (lambda: key_pair("p256").private, "ES384", "this key signs ES256, not ES384"),
        (lambda: key_pair("short-rsa").private, "RS256", "the RSA key has 1024 bits"),
        (lambda: key_pair("dsa").private, "RS256", "tokens cannot be signed with this kind of key"),
    ],
    ids=range(10),
)
def test_signer_refuses_saying_why(key: Callable[[], str], algorithm: str, message: str) -> None:
    """A key that does not fit is found when the signer is made, not when it signs."""
    with pytest.raises(ValueError, match=message):
        TokenSigner(key(), algorithm)


@given(
    st.dictionaries(
        st.text(max_size=5), st.none() | st.booleans() | st.text() | st.integers(), max_size=5
    )
)
def test_token_carries_any_claims_there_and_back(extra: dict[str, object]) -> None:
    """A signed token is accepted whatever else it carries, in any script."""
    claims = {**{f"x-{name}": value for name, value in extra.items()}, **CLAIMS}
    token = TokenSigner(SECRET).sign(claims)
    assert TokenVerifier([hmac_key(SECRET)]).verify(token, NOW) == principal_from_claims(claims)

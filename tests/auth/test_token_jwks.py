import base64
from dataclasses import replace

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from auth.tokens import MAX_JWKS_KEYS, TokenSigner, TokenVerifier, jwks_keys, public_key
from tests.auth.keys import ASYMMETRIC, CLAIMS, NOW, jwk, key_pair


@pytest.mark.parametrize("name, algorithm", ASYMMETRIC)
def test_jwks_keys_verify_what_the_issuer_signs(name: str, algorithm: str) -> None:
    """A published key works with its id; without `alg` for every algorithm of its kind."""
    signer = TokenSigner(key_pair(name).private, algorithm, "k1")
    keys = jwks_keys({"keys": [jwk("other-rsa", kid="k0"), jwk(name, kid="k1")]})
    assert [key.kid for key in keys] == ["k0", "k1"]
    assert keys[1].algorithms == public_key(key_pair(name).public).algorithms
    assert TokenVerifier(keys).verify(signer.sign(CLAIMS), NOW).sub == "staff-12"


def test_jwks_keys_keep_to_the_algorithm_they_name() -> None:
    """An `alg` in the set narrows the key to it."""
    (key,) = jwks_keys({"keys": [jwk("rsa", alg="PS256")]})
    assert key.algorithms == ("PS256",)
    assert key == replace(public_key(key_pair("rsa").public), algorithms=("PS256",))


UNUSABLE: dict[str, object] = {
    "shared secret": {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 48).decode()},
    "not an object": "key",
    "unknown kind": {"kty": "AKP", "alg": "ML-DSA-44"},
    "incomplete": {"kty": "RSA"},
    "wrong type": {"kty": "RSA", "n": 7, "e": []},
    "kid no string": lambda: jwk("rsa", kid=7),
    "for encryption": lambda: jwk("rsa", use="enc"),
    "for other operations": lambda: jwk("rsa", key_ops=["encrypt"]),
    "operations no list": lambda: jwk("rsa", key_ops="verify"),
    "alg of another kind": lambda: jwk("rsa", alg="HS256"),
    "alg no string": lambda: jwk("rsa", alg=["RS256"]),
    "too short": lambda: jwk("short-rsa"),
    "private": lambda: jwt.get_algorithm_by_name("RS256").to_jwk(
        load_pem_private_key(key_pair("rsa").private.encode(), None), as_dict=True
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_jwks_keys_leave_out_what_cannot_verify(case: str) -> None:
    """An entry of no use does not spoil the others; alone, it is an error."""
    entry = UNUSABLE[case]
    entry = entry() if callable(entry) else entry
    assert len(jwks_keys({"keys": [entry, jwk("p256")]})) == 1
    with pytest.raises(ValueError, match="holds no public key"):
        jwks_keys({"keys": [entry]})


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": []}, {"keys": {"kty": "RSA"}}])
def test_jwks_keys_refuse_a_document_without_keys(document: dict[str, object]) -> None:
    """What is no key set is an error, never an empty set of keys."""
    with pytest.raises(ValueError, match="holds no public key"):
        jwks_keys(document)


def test_jwks_keys_may_say_that_they_verify() -> None:
    """`key_ops` is another way to say `use`."""
    entry = jwk("rsa", key_ops=["verify"])
    del entry["use"]
    assert jwks_keys({"keys": [entry]}) == (public_key(key_pair("rsa").public),)


def test_jwks_keys_are_bounded() -> None:
    """Every key costs time when it is read, and may cost time at every token."""
    entry = jwk("ed25519")
    assert len(jwks_keys({"keys": [entry] * MAX_JWKS_KEYS})) == MAX_JWKS_KEYS
    with pytest.raises(ValueError, match="holds more than 100 keys"):
        jwks_keys({"keys": [entry] * (MAX_JWKS_KEYS + 1)})


jwk_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("AQAB"),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)
JWK_MEMBERS = ["use", "key_ops", "kid", "alg", "n", "e", "d", "p", "q", "crv", "x", "y", "k", "oth"]


@given(
    st.sampled_from(["RSA", "EC", "OKP", "oct", 7]),
    st.dictionaries(st.sampled_from(JWK_MEMBERS), jwk_values),
    st.sampled_from(["rsa", "p256", "ed25519"]),
)
def test_jwks_keys_survive_any_entry(kind: object, members: dict[str, object], name: str) -> None:
    """Whatever an issuer publishes beside a good key, the good key is found."""
    broken = [{"kty": kind, **members}, {**jwk(name), **members}]
    good = jwk("p384", kid="good")
    assert jwks_keys({"keys": [*broken, good]})[-1].kid == "good"

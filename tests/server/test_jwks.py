from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import httpx
import jwt
import pytest
from structlog.testing import capture_logs

from auth.errors import AuthError, KeysUnavailable, TokenInvalid, UnknownKey
from auth.principal import Principal
from auth.tokens import TokenVerifier, hmac_key
from server.jwks import MAX_WAITING, JwksKeys, Pace, PatientVerifier, lifetime_s
from tests.auth.keys import SECRET, hs256, key_pair
from tests.harness import eventually
from tests.server.issuer import (
    ALGORITHMS,
    ASKED,
    asked_times,
    fetches,
    fetching,
    issuing,
    jwk,
    refusal,
    signed,
)

# --- keys ----------------------------------------------------------------------------------------


async def test_keys_of_every_kind_are_fetched_and_verify() -> None:
    """RSA, EC and Edwards keys of one set each verify what they sign, from the first token on."""
    async with issuing(*ALGORITHMS) as issuer:
        keys = JwksKeys(issuer.url, pace=ASKED)
        assert (keys.known, math.isnan(keys.age_s())) == (False, True)
        async with fetching(keys) as verifier:
            for name in ALGORITHMS:
                assert (await verifier.verified(signed(name))).sub == "staff-12"
                assert verifier.verify(signed(name), time.time()).sub == "staff-12"
            assert keys.known
            assert keys.age_s() >= 0.0
        assert [request["path"] for request in issuer.requests] == ["/keys.json"]
        assert issuer.requests[0]["accept-encoding"] == "identity"


async def test_fixed_keys_are_valid_beside_the_fetched() -> None:
    """A shared secret and a key set serve together, and the secret needs no fetch."""
    async with issuing("rsa") as issuer:
        keys = JwksKeys(issuer.url, [hmac_key(SECRET)], ASKED)
        issuer.gate.clear()
        async with fetching(keys) as verifier:
            assert keys.known
            claims = {"sub": "staff-9", "exp": time.time() + 60}
            assert (await verifier.verified(hs256(claims))).sub == "staff-9"
            issuer.gate.set()
            assert (await verifier.verified(signed("rsa"))).sub == "staff-12"
            assert (await verifier.verified(hs256(claims))).sub == "staff-9"


async def test_token_without_a_key_id_waits_for_the_first_fetch() -> None:
    """An issuer of one key need not name it."""
    async with issuing("p256") as issuer:
        del issuer.published[0]["kid"]  # type: ignore[attr-defined]
        async with fetching(JwksKeys(issuer.url, pace=ASKED)) as verifier:
            assert (await verifier.verified(signed("p256", kid=None))).sub == "staff-12"
            issuer.published = [{**jwk("ed25519"), "kid": None}]
            assert (await verifier.verified(signed("ed25519", kid=None))).sub == "staff-12"
            issuer.published = [{**jwk("p256"), "kid": None}]
            assert (await verifier.verified(signed("p256", kid=None))).sub == "staff-12"


async def test_entries_of_no_use_are_left_out_and_counted() -> None:
    """What cannot verify tokens is neither used nor shown, and does not spoil the rest."""
    hidden = [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "oct"},
        jwk("rsa", use="enc", kid="enc"),
        jwk("rsa", key_ops=["encrypt"], kid="ops"),
        jwk("rsa", alg="HS256", kid="hs"),
        {"kty": "AKP", "kid": "new"},
        "text",
    ]
    with capture_logs() as logs:
        async with issuing() as issuer:
            issuer.published = [*hidden, jwk("ed25519")]
            async with fetching(JwksKeys(issuer.url, pace=ASKED)) as verifier:
                assert (await verifier.verified(signed("ed25519"))).sub == "staff-12"
                for kid in ("oct", "enc", "ops", "hs", "new"):
                    error = await refusal(verifier, signed("rsa", kid=kid))
                    assert type(error) is TokenInvalid
    (line,) = [line for line in logs if line["event"] == "jwks.fetched"]
    assert (line["keys"], line["ignored"]) == (1, 6)
    assert "c2VjcmV0" not in str(logs)


async def test_fetched_key_keeps_to_its_algorithm() -> None:
    """A published key is no HMAC secret, and its `alg` closes its list."""
    async with issuing() as issuer:
        issuer.published = [jwk("rsa", alg="PS256")]
        async with fetching(JwksKeys(issuer.url, pace=ASKED)) as verifier:
            error = await refusal(verifier, signed("rsa"))
            assert error.reason == "algorithm RS256 is not accepted"
            with pytest.raises(TokenInvalid, match="HS256 is not accepted"):
                verifier.verify(hs256({"sub": "x", "exp": time.time() + 60}), time.time())


# --- rotation ------------------------------------------------------------------------------------


async def test_new_key_is_fetched_when_a_token_names_it() -> None:
    """Rotation needs no restart: the new key at once, the old one until it is withdrawn."""
    async with issuing("rsa") as issuer:
        keys = JwksKeys(issuer.url, pace=ASKED)
        async with fetching(keys) as verifier:
            await verifier.verified(signed("rsa"))
            issuer.publish("rsa", "p256")
            with pytest.raises(UnknownKey):
                verifier.verify(signed("p256"), time.time())
            assert (await verifier.verified(signed("p256"))).sub == "staff-12"
            assert verifier.verify(signed("rsa"), time.time()).sub == "staff-12"
            issuer.publish("p256", "ed25519")
            await verifier.verified(signed("ed25519"))
            assert keys.counts == {"fetched": 3}
            assert type(await refusal(verifier, signed("rsa"))) is TokenInvalid


async def test_keys_are_fetched_again_before_they_are_out_of_date() -> None:
    """Without any token the copy stays fresh: a withdrawn key ends by itself."""
    async with issuing("rsa") as issuer:
        keys = JwksKeys(issuer.url, pace=Pace(gap_s=0.0, least_s=0.02))
        issuer.headers = {"Cache-Control": "max-age=0"}
        async with fetching(keys) as verifier:
            await verifier.verified(signed("rsa"))
            issuer.publish("p256")
            await fetches(keys, keys.counts.total() + 2)
            with pytest.raises(TokenInvalid):
                verifier.verify(signed("rsa"), time.time())
            assert verifier.verify(signed("p256"), time.time()).sub == "staff-12"


@pytest.mark.parametrize(
    "headers, life_s",
    [
        ({}, 600),
        ({"Cache-Control": "public"}, 600),
        ({"Cache-Control": "max-age=900"}, 900),
        ({"Cache-Control": "public, MAX-AGE=900, must-revalidate"}, 900),
        ({"Cache-Control": 'max-age="900"'}, 900),
        ({"Cache-Control": "s-maxage=900"}, 600),
        ({"Cache-Control": "x-max-age=900"}, 600),
        ({"Cache-Control": "max-age=900", "Age": "200"}, 700),
        ({"Cache-Control": "max-age=900", "Age": "young"}, 900),
        ({"Cache-Control": "max-age=900", "Age": "9999"}, 60),
        ({"Cache-Control": "max-age=1"}, 60),
        ({"Cache-Control": "no-store"}, 60),
        ({"Cache-Control": "no-cache, max-age=900"}, 60),
        ({"Cache-Control": "max-age=31536000"}, 3600),
        ({"Cache-Control": "max-age=-1"}, 600),
        ({"Cache-Control": "max-age=soon"}, 600),
    ],
)
def test_keys_are_kept_for_as_long_as_the_issuer_says(
    headers: dict[str, str], life_s: float
) -> None:
    """Between a minute and an hour; ten minutes where it says nothing."""
    assert lifetime_s(httpx.Headers(headers), Pace()) == life_s


# --- asking --------------------------------------------------------------------------------------


async def test_flood_of_unknown_keys_is_one_fetch() -> None:
    """However many tokens name keys that do not exist, the issuer is asked once for all."""
    async with issuing("rsa") as issuer:
        keys = JwksKeys(issuer.url, pace=ASKED)
        async with fetching(keys) as verifier:
            await verifier.verified(signed("rsa"))
            for round_ in range(3):
                before = len(issuer.requests)
                issuer.gate.clear()
                tokens = [signed("p256", kid=f"{round_}-{i}") for i in range(100)]
                asked = [asyncio.create_task(refusal(verifier, token)) for token in tokens]
                await asked_times(issuer, before + 1)
                issuer.gate.set()
                errors = await asyncio.gather(*asked)
                assert {type(error) for error in errors} == {TokenInvalid}
                assert len(issuer.requests) == before + 1
            assert verifier.verify(signed("rsa"), time.time()).sub == "staff-12"


async def test_fetches_keep_their_distance() -> None:
    """From one fetch for a token to the next there is a gap; who asks meanwhile waits for it."""
    gap_s = 0.05
    async with issuing("rsa") as issuer:
        async with fetching(JwksKeys(issuer.url, pace=replace(ASKED, gap_s=gap_s))) as verifier:
            for number in range(4):
                assert (
                    type(await refusal(verifier, signed("p256", kid=f"{number}"))) is TokenInvalid
                )
        # The first was not for a token, so the second followed at once.
        assert len(issuer.times) == 4
        assert all(later - earlier >= gap_s for earlier, later in pairwise(issuer.times[1:]))


async def test_token_whose_key_appears_while_it_waits_is_accepted() -> None:
    """A key that is published a moment after a fetch is not refused for good."""
    async with issuing("rsa") as issuer:
        keys = JwksKeys(issuer.url, pace=replace(ASKED, gap_s=0.05))
        async with fetching(keys) as verifier:
            await verifier.verified(signed("rsa"))
            await refusal(verifier, signed("p384"))
            waits = asyncio.create_task(verifier.verified(signed("p256")))
            issuer.publish("rsa", "p256")
            assert (await waits).sub == "staff-12"


@pytest.mark.parametrize(
    "token",
    [
        lambda: hs256({"sub": "x", "exp": 9e9}),
        lambda: signed("other-rsa", kid="rsa"),
        lambda: signed("other-rsa", kid=None),
        lambda: "not a token",
        lambda: signed("rsa", exp=1),
    ],
    ids=["hmac", "wrong key", "no id", "text", "expired"],
)
async def test_token_that_no_fetch_could_help_waits_for_none(token: Callable[[], str]) -> None:
    """Only a public key that is not known is worth asking for."""
    async with issuing("rsa") as issuer, fetching(JwksKeys(issuer.url, pace=ASKED)) as verifier:
        await verifier.verified(signed("rsa"))
        await refusal(verifier, token())
        assert len(issuer.requests) == 1


@pytest.mark.parametrize("header", ["jku", "x5u", "kid"])
async def test_address_in_a_token_is_never_fetched(header: str) -> None:
    """Whatever a token points to, the configured address alone is asked."""
    async with issuing("rsa") as issuer, issuing("other-rsa") as attacker:
        async with fetching(JwksKeys(issuer.url, pace=ASKED)) as verifier:
            signer = forged({"kid": "other-rsa", header: attacker.url})
            assert type(await refusal(verifier, signer)) is TokenInvalid
        assert len(issuer.requests) >= 1
        assert attacker.requests == []


def forged(headers: dict[str, str]) -> str:
    """Sign with the attacker's key under any header."""
    claims = {"sub": "admin", "exp": time.time() + 60}
    return jwt.encode(claims, key_pair("other-rsa").private, "RS256", headers)


async def test_waiting_tokens_are_bounded() -> None:
    """Over the bound a token is told to come back, and those that wait are answered."""
    async with issuing("rsa") as issuer, fetching(JwksKeys(issuer.url, pace=ASKED)) as verifier:
        await verifier.verified(signed("rsa"))
        issuer.gate.clear()
        answers: list[Principal | AuthError] = []
        token = signed("p256")
        for _ in range(MAX_WAITING + 1):
            verifier.verify_later(token, answers.append)
        await eventually(lambda: len(answers) == 1)
        assert type(answers[0]) is KeysUnavailable
        issuer.publish("p256")
        issuer.gate.set()
        await eventually(lambda: len(answers) == MAX_WAITING + 1)
        assert all(isinstance(answer, Principal) for answer in answers[1:])
        # And there is room again.
        assert type(await refusal(verifier, signed("p384"))) is TokenInvalid


async def test_waiter_that_gives_up_leaves_the_others_alone() -> None:
    """A client that goes away takes neither the fetch nor anybody's answer with it."""
    async with issuing("rsa") as issuer, fetching(JwksKeys(issuer.url, pace=ASKED)) as verifier:
        issuer.gate.clear()
        leaves, stays = (
            asyncio.create_task(verifier.verified(signed("rsa"))),
            asyncio.create_task(verifier.verified(signed("rsa"))),
        )
        await asked_times(issuer, 1)
        leaves.cancel()
        issuer.gate.set()
        assert (await stays).sub == "staff-12"
        assert leaves.cancelled()


async def test_verifier_without_an_address_never_waits() -> None:
    """With fixed keys only, an unknown key is an invalid token, at once and in the end."""
    verifier = PatientVerifier(TokenVerifier([hmac_key(SECRET)]))
    with pytest.raises(TokenInvalid) as caught:
        verifier.verify(signed("rsa"), time.time())
    assert type(caught.value) is TokenInvalid
    assert type(await refusal(verifier, signed("rsa"))) is TokenInvalid
    answers: list[Principal | AuthError] = []
    verifier.verify_later(signed("rsa"), answers.append)
    assert answers == []
    await asyncio.sleep(0)
    assert [type(answer) for answer in answers] == [TokenInvalid]

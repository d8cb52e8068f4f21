"""Signed requests: every fault is 401, with a reason that helps to mend it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pusher.errors
import pytest

from tests.harness import Server, new_hotel, room_updated

EVENTS = "/apps/1/events"
NOW = int(time.time())


def body() -> dict[str, Any]:
    """Return the body of a good trigger."""
    hotel = new_hotel()
    data = room_updated(hotel=hotel)
    return {"name": "room_updated", "channels": [f"{hotel}.rooms"], "data": data}


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no signature": ({"after": {"auth_signature": None}}, "auth_signature is missing"),
    "wrong signature": ({"after": {"auth_signature": "0" * 64}}, "auth_signature does not match"),
    "foreign signature": ({"after": {"auth_signature": "é"}}, "auth_signature does not match"),
    "wrong secret": ({"secret": "wrong"}, "auth_signature does not match"),
    "parameter added": ({"after": {"info": "user_count"}}, "auth_signature does not match"),
    "no key": ({"after": {"auth_key": None}}, "auth_key"),
    "another key": ({"params": {"auth_key": "other"}}, "auth_key"),
    "no version": ({"after": {"auth_version": None}}, "auth_version must be 1.0"),
    "another version": ({"params": {"auth_version": "2.0"}}, "auth_version must be 1.0"),
    "no timestamp": ({"after": {"auth_timestamp": None}}, "auth_timestamp is missing"),
    "timestamp of letters": ({"params": {"auth_timestamp": "now"}}, "whole seconds"),
    "endless timestamp": ({"params": {"auth_timestamp": "9" * 400}}, "whole seconds"),
    "negative timestamp": ({"params": {"auth_timestamp": "-5"}}, "whole seconds"),
    "old timestamp": ({"params": {"auth_timestamp": str(NOW - 700)}}, "the limit is 600 s"),
    "early timestamp": ({"params": {"auth_timestamp": str(NOW + 4000)}}, "the limit is 600 s"),
    "another body": ({"params": {"body_md5": "0" * 32}}, "body_md5 is not the MD5"),
    "no body_md5": ({"after": {"body_md5": None}}, "body_md5 is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_request_is_refused_with_its_reason(server: Server, fault: str) -> None:
    """401, and the answer holds neither the secret nor the signature that was expected."""
    changes, reason = FAULTS[fault]
    answer = await server.api("POST", EVENTS, body(), **changes)
    assert answer.status_code == 401
    assert reason in answer.json()["error"]
    assert len(answer.text) < 300


@pytest.mark.parametrize("offset", [-590, 590])
async def test_clock_may_differ(server: Server, offset: int) -> None:
    """A backend's clock may be off by ten minutes."""
    params = {"auth_timestamp": str(int(time.time()) + offset)}
    assert (await server.api("POST", EVENTS, body(), params=params)).status_code == 200


async def test_further_parameters_are_signed(server: Server) -> None:
    """Whatever a library adds to the query counts, in lower case and sorted."""
    params = {"a": "1", "info": "user_count,subscription_count", "zz": ""}
    assert (await server.api("POST", EVENTS, body(), params=params)).status_code == 200


async def test_path_is_signed(server: Server) -> None:
    """A signature for one path is none for another."""
    answer = await server.api("POST", EVENTS + "/", body())
    assert answer.status_code in {307, 404}


async def test_library_is_told_of_the_wrong_secret(server: Server) -> None:
    """The released library raises its own error, with our reason in it."""
    backend = server.pusher(secret="not-the-secret")
    with pytest.raises(pusher.errors.PusherBadAuth, match="check the secret"):
        await asyncio.to_thread(backend.trigger, "hotel.rooms", "e", {})


async def test_refusal_publishes_nothing(server: Server) -> None:
    """What was not signed takes no number."""
    good = body()
    await server.api("POST", EVENTS, good, secret="wrong")
    answer = await server.api("POST", EVENTS, good)
    assert answer.headers["Bellhop-Sequence"] == "1"

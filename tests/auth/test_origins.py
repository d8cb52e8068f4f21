from __future__ import annotations

import pytest

from auth.origins import OriginPolicy

DESK = "https://desk.example.com"


@pytest.mark.parametrize("origin", [DESK, "http://evil.example", "null", "", "nonsense", None])
def test_origins_are_all_allowed_when_none_is_listed(origin: str | None) -> None:
    """Without a list explicit tokens may come from anywhere."""
    assert OriginPolicy().allows(origin)
    assert OriginPolicy(["*"]).allows(origin)


@pytest.mark.parametrize(
    "listed, origin",
    [
        (DESK, DESK),
        (DESK, "https://desk.example.com:443"),
        (DESK, "HTTPS://Desk.Example.COM"),
        (DESK + "/", DESK),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://desk.example.com:80", "http://desk.example.com"),
        ("http://[::1]:6001", "http://[::1]:6001"),
        ("capacitor://localhost:1", "capacitor://localhost:1"),
        (DESK, None),
    ],
)
def test_origin_is_allowed_when_it_is_listed(listed: str, origin: str | None) -> None:
    """Scheme, host and port decide, as browsers compare them; no Origin means no browser."""
    assert OriginPolicy(["https://other.example", listed]).allows(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "http://desk.example.com",
        "https://desk.example.com:444",
        "https://desk.example.com.evil.example",
        "https://evil-desk.example.com",
        "https://desk.example.com@evil.example",
        "https://evil.example/https://desk.example.com",
        "desk.example.com",
        "//desk.example.com",
        "https://",
        "https://[::1",
        "https://desk.example.com:x",
        "https://desk.example.com:99999",
        "file://",
        "null",
        "*",
        "",
    ],
)
def test_origin_is_refused_when_it_is_not_listed(origin: str) -> None:
    """With a list any other Origin is refused, malformed ones and `null` among them."""
    policy = OriginPolicy([DESK, "nonsense", "null"])
    assert not policy.allows(origin)
    assert not policy.trusts_cookie(origin, "desk.example.com")
    assert policy.cors(origin) is None


@pytest.mark.parametrize(
    "origin, host",
    [
        (DESK, "desk.example.com"),
        (DESK, "desk.example.com:443"),
        (DESK, "DESK.example.com"),
        ("http://127.0.0.1:6001", "127.0.0.1:6001"),
        ("http://[::1]:6001", "[::1]:6001"),
        (None, "desk.example.com"),
        (None, None),
    ],
)
def test_cookie_counts_from_our_own_host_when_no_origin_is_listed(
    origin: str | None, host: str | None
) -> None:
    """A page of this very host speaks for its user; without an Origin no page asks."""
    assert OriginPolicy().trusts_cookie(origin, host)


@pytest.mark.parametrize(
    "origin, host",
    [
        ("https://evil.example", "desk.example.com"),
        (DESK, "desk.example.com:6001"),
        (DESK, "example.com"),
        (DESK, None),
        (DESK, ""),
        (DESK, "desk.example.com:x"),
        ("null", "desk.example.com"),
        ("null", "null"),
        ("null", ""),
        ("", ""),
        ("file://", ""),
    ],
)
def test_cookie_does_not_count_from_another_host_when_no_origin_is_listed(
    origin: str, host: str | None
) -> None:
    """The browser adds cookies to what any page asks for; such a page is told nothing."""
    assert not OriginPolicy().trusts_cookie(origin, host)


def test_cookie_counts_from_listed_origins_alone_when_there_is_a_list() -> None:
    """A list replaces the comparison with Host, and `*` allows pages, not their cookies."""
    policy = OriginPolicy([DESK])
    assert policy.trusts_cookie(DESK, "realtime.example.com")
    assert policy.trusts_cookie(None, "realtime.example.com")
    assert not policy.trusts_cookie("https://realtime.example.com", "realtime.example.com")
    assert not OriginPolicy(["*"]).trusts_cookie("https://evil.example", "desk.example.com")
    assert OriginPolicy(["*", DESK]).trusts_cookie(DESK, "realtime.example.com")


def test_cors_names_the_origin_that_asked_when_it_is_allowed() -> None:
    """A preflight is answered with the very Origin, never with a wildcard, and only for pages."""
    assert OriginPolicy([DESK]).cors(DESK) == DESK
    assert OriginPolicy(["*"]).cors("https://any.example") == "https://any.example"
    assert OriginPolicy().cors("null") == "null"
    assert OriginPolicy([DESK]).cors(None) is None

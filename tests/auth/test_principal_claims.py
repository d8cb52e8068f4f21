import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from auth.errors import TokenInvalid
from auth.principal import (
    GuestScope,
    HotelGrant,
    Kind,
    Principal,
    Role,
    principal_from_claims,
)


def principal(**claims: object) -> Principal:
    """Read the claims beside the required ones."""
    return principal_from_claims({"sub": "12", "exp": 99, **claims})


def test_principal_claims_are_short() -> None:
    """What is empty, absent or the same as the token's roles is left out of the signed object."""
    assert principal().claims() == {"exp": 99.0, "kind": "staff", "staff_id": "12"}
    read = principal(
        kind="service",
        roles=["manager", "admin"],
        hotels=["a", {"slug": "b", "id": 4}, {"slug": "c", "roles": []}],
    )
    assert read.claims() == {
        "exp": 99.0,
        "kind": "service",
        "hotels": ["a", {"slug": "b", "id": "4"}, {"slug": "c", "roles": []}],
        "roles": ["admin", "manager"],
        "staff_id": "12",
    }
    assert replace(read, hotels=(), all_hotels=True).claims()["hotels"] == "*"


ids = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)
slugs = st.from_regex(r"[A-Za-z0-9_]{1,5}(-[A-Za-z0-9_]{1,5}){0,2}", fullmatch=True).filter(
    lambda slug: (
        not slug.startswith(("private-", "presence-", "cache-", "staff-"))
        and slug != "guest-booking"
    )
)
roles = st.frozensets(st.sampled_from(Role))
grants = st.builds(HotelGrant, slug=slugs, id=st.none() | ids, roles=roles)
times = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def principals(draw: st.DrawFn) -> Principal:
    """Draw any principal that a token can give."""
    kind = draw(st.sampled_from(Kind))
    all_hotels = kind is Kind.SERVICE and draw(st.booleans())
    least, most = (1, 1) if kind is Kind.GUEST else (0, 0 if all_hotels else 4)
    hotels = draw(
        st.lists(grants, min_size=least, max_size=most, unique_by=lambda grant: grant.slug)
    )
    return Principal(
        sub=draw(ids),
        kind=kind,
        hotels=tuple(hotels),
        all_hotels=all_hotels,
        roles=draw(roles),
        staff_id=draw(ids),
        conversations=draw(st.frozensets(ids, max_size=4)),
        booking_id=draw(ids if kind is Kind.GUEST else st.none() | ids),
        scopes=draw(st.frozensets(st.sampled_from(GuestScope))),
        jti=draw(st.none() | ids),
        sid=draw(st.none() | ids),
        name=draw(st.none() | st.just("") | ids),
        iat=draw(st.none() | times),
        exp=draw(times),
    )


@given(principals())
def test_principal_survives_its_own_claims(given_principal: Principal) -> None:
    """Claims through JSON give back an equal principal: nothing is gained or lost on the way."""
    claims = json.loads(json.dumps(given_principal.claims()))
    assert "sub" not in claims
    assert principal_from_claims({"sub": given_principal.sub, **claims}) == given_principal


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("*"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["slug", "id", "roles", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
CLAIM_NAMES = [
    "iat",
    "kind",
    "hotels",
    "roles",
    "staff_id",
    "conversations",
    "booking_id",
    "scope",
    "jti",
    "sid",
    "name",
]


@given(st.dictionaries(st.sampled_from(CLAIM_NAMES), json_values, max_size=4))
def test_principal_is_read_or_refused_and_nothing_else(claims: dict[str, object]) -> None:
    """Any claims give a principal that survives its own claims, or TokenInvalid."""
    try:
        read = principal(**claims)
    except TokenInvalid as error:
        assert error.reason  # noqa: PT017 - either outcome is right
        return
    assert principal_from_claims({"sub": read.sub, **read.claims()}) == read

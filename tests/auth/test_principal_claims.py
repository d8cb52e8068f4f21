import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.errors import TokenInvalid
from auth.principal import (
    ClaimNames,
    GuestScope,
    HotelGrant,
    Kind,
    Principal,
    Role,
    claim_path,
    claims_under,
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


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, path",
    [
        ("roles", ("roles",)),
        ("cognito:groups", ("cognito:groups",)),
        ("realm_access.roles", ("realm_access", "roles")),
        ("a.b.c", ("a", "b", "c")),
        (r"hotel\.example", ("hotel.example",)),
        (r"hotel\.example.roles", ("hotel.example", "roles")),
        ("https://hotel.example/hotels", ("https://hotel.example/hotels",)),
        (r"https://hotel\.example/claims.hotels", ("https://hotel.example/claims", "hotels")),
        (r"a\b", (r"a\b",)),
    ],
)
def test_claim_path_steps_at_dots(name: str, path: tuple[str, ...]) -> None:
    """A dot leads inside, an escaped one is part of a name, and a URI is one name."""
    assert claim_path(name) == path


@pytest.mark.parametrize("name", ["", ".", ".roles", "roles.", "a..b"])
def test_claim_path_refuses_an_empty_step(name: str) -> None:
    """No claim has no name."""
    with pytest.raises(ValueError, match="must not be empty"):
        claim_path(name)


NESTED = ClaimNames(kind="app.kind", roles="realm_access.roles", hotels="app.at.hotels")


@pytest.mark.parametrize(
    "claims, roles",
    [
        ({}, set()),
        ({"realm_access": {}}, set()),
        ({"realm_access": None}, set()),
        ({"realm_access": {"roles": None}}, set()),
        ({"realm_access": {"roles": ["manager", "uma_authorization"]}}, {Role.MANAGER}),
        ({"realm_access.roles": ["manager"], "roles": ["admin"]}, set()),
    ],
)
def test_principal_reads_claims_inside_others(claims: dict[str, object], roles: set[Role]) -> None:
    """What is not there, at any step, is absent; a claim of the path's own spelling is another."""
    read = principal_from_claims({"sub": "12", "exp": 99, **claims}, NESTED)
    assert (set(read.roles), read.kind, read.hotels) == (roles, Kind.STAFF, ())


@pytest.mark.parametrize(
    "claims, reason",
    [
        ({"realm_access": ["manager"]}, 'claim "realm_access" must be an object'),
        ({"realm_access": "manager"}, 'claim "realm_access" must be an object'),
        (
            {"realm_access": {"roles": "manager"}},
            'claim "realm_access.roles" must be a list',
        ),
        ({"app": {"at": [1]}}, 'claim "at" must be an object'),
        ({"app": None}, 'claim "app.kind" must be one of staff, guest, service'),
        ({"app": {"kind": None}}, 'claim "app.kind" must be one of staff, guest, service'),
    ],
)
def test_principal_refuses_a_claim_that_leads_nowhere(
    claims: dict[str, object], reason: str
) -> None:
    """A path through what is no object is refused, and a null never becomes a default `kind`."""
    with pytest.raises(TokenInvalid) as caught:
        principal_from_claims({"sub": "12", "exp": 99, **claims}, NESTED)
    assert caught.value.reason == reason


@given(principals())
def test_claims_under_other_names_give_the_same_principal(given_principal: Principal) -> None:
    """What is signed here under mapped names is read under them."""
    names = ClaimNames(**{each.name: f"at.{each.name}.value" for each in fields(ClaimNames)})
    claims = {"sub": given_principal.sub, **given_principal.claims()}
    moved = json.loads(json.dumps(claims_under(names, {**claims, "iss": "me"})))
    assert set(moved) == {"at", "iss"}
    assert principal_from_claims(moved, names) == given_principal


def test_claims_under_one_name_must_agree() -> None:
    """Two claims in one place are one value; a claim never lies inside a text."""
    names = ClaimNames(sub="user", staff_id="user", name="user.name")
    assert claims_under(names, {"sub": "1", "staff_id": "1"}) == {"user": "1"}
    for claims in (
        {"sub": "1", "staff_id": "2"},
        {"sub": "1", "name": "Anna"},
        {"name": "Anna", "sub": "1"},
    ):
        with pytest.raises(ValueError, match='two claims are mapped to one place, "user"'):
            claims_under(names, claims)

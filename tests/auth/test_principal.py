import pytest

from auth.errors import TokenInvalid
from auth.principal import (
    ClaimNames,
    GuestScope,
    HotelGrant,
    Kind,
    Principal,
    Role,
    principal_from_claims,
)

MINIMAL = Principal(
    sub="12",
    kind=Kind.STAFF,
    hotels=(),
    all_hotels=False,
    roles=frozenset(),
    staff_id="12",
    conversations=frozenset(),
    booking_id=None,
    scopes=frozenset(),
    jti=None,
    sid=None,
    name=None,
    iat=None,
    exp=99.0,
)
GUEST: dict[str, object] = {"kind": "guest", "hotels": ["grand"], "booking_id": "7"}


def principal(**claims: object) -> Principal:
    """Read the claims beside the required ones."""
    return principal_from_claims({"sub": "12", "exp": 99, **claims})


def refusal(**claims: object) -> str:
    """Return the reason for which the claims are refused."""
    with pytest.raises(TokenInvalid) as caught:
        principal(**claims)
    return caught.value.reason


def test_principal_has_defaults_when_only_the_required_claims_are_there() -> None:
    """A token of `sub` and `exp` is a staff member of no hotel."""
    assert principal() == MINIMAL


def test_principal_is_read_from_every_claim() -> None:
    """Each claim lands in its field; unknown roles, scopes and claims are ignored."""
    assert principal(
        iat=5,
        kind="staff",
        hotels=["grand", {"slug": "sea-view", "id": 4, "roles": ["admin", "juggler"], "x": 1}],
        roles=["front_desk", "finance", "juggler"],
        staff_id=77,
        conversations=["a", 5],
        booking_id=9,
        scope=["CHAT", "SINGING"],
        jti="j",
        sid="s",
        name="Zoë",
        unknown={"a": 1},
    ) == Principal(
        sub="12",
        kind=Kind.STAFF,
        hotels=(
            HotelGrant("grand", None, frozenset({Role.FRONT_DESK, Role.FINANCE})),
            HotelGrant("sea-view", "4", frozenset({Role.ADMIN})),
        ),
        all_hotels=False,
        roles=frozenset({Role.FRONT_DESK, Role.FINANCE}),
        staff_id="77",
        conversations=frozenset({"a", "5"}),
        booking_id="9",
        scopes=frozenset({GuestScope.CHAT}),
        jti="j",
        sid="s",
        name="Zoë",
        iat=5.0,
        exp=99.0,
    )


def test_principal_treats_null_as_absent() -> None:
    """A backend that writes every claim, some of them null, means what it left out."""
    nulls = dict.fromkeys(
        [
            "iat",
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
    )
    assert principal(**nulls) == MINIMAL
    assert principal(hotels=[{"slug": "grand", "id": None}]).hotels == (
        HotelGrant("grand", None, frozenset()),
    )


def test_principal_sub_may_be_a_whole_number() -> None:
    """A numeric user id becomes its decimal digits, and is the staff id by default."""
    read = principal(sub=42)
    assert (read.sub, read.staff_id) == ("42", "42")


@pytest.mark.parametrize(
    "scope, expected",
    [
        (["STATUS_READ", "CHAT"], {GuestScope.STATUS_READ, GuestScope.CHAT}),
        ("STATUS_READ ROOM_SERVICE", {GuestScope.STATUS_READ, GuestScope.ROOM_SERVICE}),
        ("CHAT", {GuestScope.CHAT}),
        ("chat", set()),
        ("", set()),
        ([], set()),
    ],
)
def test_principal_scope_is_a_list_or_words(scope: object, expected: set[GuestScope]) -> None:
    """OAuth's spelling of scopes, one string of words, is understood too."""
    assert principal(**GUEST, scope=scope).scopes == expected


def test_principal_roles_of_a_hotel_replace_those_of_the_token() -> None:
    """A hotel's own roles count alone, and an empty list leaves none."""
    read = principal(
        roles=["manager"],
        hotels=[
            "a",
            {"slug": "b"},
            {"slug": "c", "roles": ["finance"]},
            {"slug": "d", "roles": []},
        ],
    )
    assert [grant.roles for grant in read.hotels] == [
        {Role.MANAGER},
        {Role.MANAGER},
        {Role.FINANCE},
        frozenset(),
    ]


@pytest.mark.parametrize("value", ["*", ["*"]])
def test_principal_of_all_hotels_is_a_service(value: object) -> None:
    """The star is for a service alone, and lists no hotel."""
    read = principal(kind="service", hotels=value, roles=["admin"])
    assert (read.all_hotels, read.hotels, read.roles) == (True, (), frozenset({Role.ADMIN}))
    assert read.hotel("grand") is None
    for kind in ("staff", "guest"):
        reason = refusal(**{**GUEST, "kind": kind, "hotels": value})
        assert reason == 'only a service token may name all hotels in claim "hotels"'


def test_principal_finds_its_hotels() -> None:
    """A grant is found by its slug, and every grant of an id by the id."""
    read = principal(hotels=[{"slug": "a", "id": 4}, {"slug": "b", "id": "4"}, "c"])
    a, b, c = read.hotels
    assert [read.hotel(slug) for slug in ("a", "b", "c", "A", "d")] == [a, b, c, None, None]
    assert read.hotels_with_id("4") == (a, b)
    assert read.hotels_with_id("5") == ()


def test_principal_hotel_listed_twice_alike_counts_once() -> None:
    """A backend's join may repeat an entry."""
    twice = [{"slug": "a", "id": 4}, "b", {"slug": "a", "id": "4"}]
    assert [grant.slug for grant in principal(hotels=twice).hotels] == ["a", "b"]


@pytest.mark.parametrize(
    "slug", ["grand", "Grand_Hotel", "a-b-c", "7", "_", "staff", "private", "a-staff-", "guest"]
)
def test_principal_accepts_a_slug(slug: str) -> None:
    """Words of letters, digits and underscores, joined by single dashes."""
    slug = slug.rstrip("-")
    assert principal(hotels=[slug]).hotels[0].slug == slug


MALFORMED_SLUG = (
    'slug of a hotel in claim "hotels" must be words of letters, digits and _,'
    " joined by single dashes"
)


@pytest.mark.parametrize(
    "slug, reason",
    [
        *(
            (slug, MALFORMED_SLUG)
            for slug in ["-a", "a-", "a--b", "a.b", "a b", "é", "a/b", "a#", "a:b", "ａ"]
        ),
        ("a\n", 'slug of a hotel in claim "hotels" contains a character that is not allowed'),
        ("", 'slug of a hotel in claim "hotels" must not be empty'),
        ("x" * 129, 'slug of a hotel in claim "hotels" is longer than 128 characters'),
        *(
            (
                f"{prefix}hotel",
                (
                    f'hotel slug "{prefix}hotel" in claim "hotels" begins like a channel of another'
                    " kind (none of private- presence- cache- staff- may begin one)"
                ),
            )
            for prefix in ["private-", "presence-", "cache-", "staff-"]
        ),
        (
            "guest-booking",
            (
                'hotel slug "guest-booking" in claim "hotels" is taken: its private channels would'
                " be those of the guests' bookings"
            ),
        ),
    ],
)
def test_principal_refuses_a_slug_saying_why(slug: str, reason: str) -> None:
    """No slug can make a channel's name mean another channel, in either form of an entry."""
    assert refusal(hotels=[slug]) == reason
    assert refusal(hotels=["grand", {"slug": slug}]) == reason


@pytest.mark.parametrize(
    "claim, value, reason",
    [
        ("sub", None, 'claim "sub" is missing'),
        ("sub", "", 'claim "sub" must not be empty'),
        ("sub", True, 'claim "sub" must be a string or a whole number'),
        ("sub", 1.0, 'claim "sub" must be a string or a whole number'),
        ("sub", ["12"], 'claim "sub" must be a string or a whole number'),
        ("sub", "x" * 129, 'claim "sub" is longer than 128 characters'),
        ("sub", "a\nb", 'claim "sub" contains a character that is not allowed'),
        ("exp", None, 'claim "exp" is missing'),
        ("exp", "99", 'claim "exp" must be a number'),
        ("exp", True, 'claim "exp" must be a number'),
        ("exp", float("nan"), 'claim "exp" must be a finite number'),
        ("exp", float("inf"), 'claim "exp" must be a finite number'),
        ("exp", 10**400, 'claim "exp" must be a finite number'),
        ("iat", "5", 'claim "iat" must be a number'),
        ("iat", False, 'claim "iat" must be a number'),
        ("kind", "admin", 'claim "kind" must be one of staff, guest, service'),
        ("kind", "STAFF", 'claim "kind" must be one of staff, guest, service'),
        ("kind", None, 'claim "kind" must be one of staff, guest, service'),
        ("kind", ["staff"], 'claim "kind" must be one of staff, guest, service'),
        ("roles", "manager", 'claim "roles" must be a list'),
        ("roles", {"manager": True}, 'claim "roles" must be a list'),
        ("roles", ["manager", 7], 'claim "roles" must hold strings'),
        ("roles", ["x"] * 1001, 'claim "roles" has more than 1000 entries'),
        ("scope", 7, 'claim "scope" must be a list'),
        ("scope", [None], 'claim "scope" must hold strings'),
        ("staff_id", "", 'claim "staff_id" must not be empty'),
        ("staff_id", {}, 'claim "staff_id" must be a string or a whole number'),
        ("conversations", "a", 'claim "conversations" must be a list'),
        (
            "conversations",
            [1.5],
            'an entry of claim "conversations" must be a string or a whole number',
        ),
        ("conversations", [1] * 10_001, 'claim "conversations" has more than 10000 entries'),
        ("booking_id", True, 'claim "booking_id" must be a string or a whole number'),
        ("booking_id", "", 'claim "booking_id" must not be empty'),
        ("jti", 5, 'claim "jti" must be a string'),
        ("sid", [], 'claim "sid" must be a string'),
        ("name", 5, 'claim "name" must be a string'),
        ("name", "x" * 257, 'claim "name" is longer than 256 characters'),
        ("hotels", "grand", 'claim "hotels" must be a list'),
        ("hotels", {"slug": "grand"}, 'claim "hotels" must be a list'),
        ("hotels", ["a"] * 1001, 'claim "hotels" has more than 1000 entries'),
        ("hotels", [7], 'an entry of claim "hotels" must be a slug or an object with a slug'),
        ("hotels", [None], 'an entry of claim "hotels" must be a slug or an object with a slug'),
        ("hotels", [{}], 'slug of a hotel in claim "hotels" must be a string'),
        ("hotels", ["a", "*"], MALFORMED_SLUG),
        (
            "hotels",
            [{"slug": "a", "id": False}],
            'id of a hotel in claim "hotels" must be a string or a whole number',
        ),
        (
            "hotels",
            [{"slug": "a", "roles": None}],
            'roles of a hotel in claim "hotels" must be a list',
        ),
        (
            "hotels",
            [{"slug": "a", "roles": [7]}],
            'roles of a hotel in claim "hotels" must hold strings',
        ),
        (
            "hotels",
            ["a", {"slug": "a", "roles": ["admin"]}],
            'claim "hotels" names hotel "a" twice and not alike',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else None,
)
def test_principal_refuses_a_claim_naming_it(claim: str, value: object, reason: str) -> None:
    """Every claim is checked for its type and bounds, and the reason names it."""
    assert refusal(**{claim: value}) == reason


@pytest.mark.parametrize("claim", ["sub", "exp"])
def test_principal_needs_its_required_claims(claim: str) -> None:
    """Who it is and until when are never guessed."""
    claims = {"sub": "12", "exp": 99}
    del claims[claim]
    with pytest.raises(TokenInvalid, match=f'claim "{claim}" is missing'):
        principal_from_claims(claims)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"hotels": []}, 'a guest token needs exactly one hotel in claim "hotels"'),
        ({"hotels": None}, 'a guest token needs exactly one hotel in claim "hotels"'),
        ({"hotels": ["a", "b"]}, 'a guest token needs exactly one hotel in claim "hotels"'),
        ({"booking_id": None}, 'a guest token needs claim "booking_id"'),
    ],
)
def test_principal_guest_has_one_hotel_and_one_booking(
    changes: dict[str, object], reason: str
) -> None:
    """A guest is the guest of one booking at one hotel."""
    assert principal(**GUEST).booking_id == "7"
    assert principal(**{**GUEST, "hotels": ["grand", "grand"]}).hotels[0].slug == "grand"
    assert refusal(**{**GUEST, **changes}) == reason


def test_principal_reads_claims_under_mapped_names() -> None:
    """Every claim can have another name, one claim can serve twice, and reasons use that name."""
    names = ClaimNames(
        sub="user_id",
        exp="until",
        iat="since",
        kind="type",
        hotels="properties",
        roles="groups",
        staff_id="user_id",
        conversations="threads",
        booking_id="reservation",
        scope="scp",
        jti="tid",
        sid="device",
        name="display",
    )
    claims: dict[str, object] = {
        "user_id": 42,
        "until": 99,
        "since": 1,
        "type": "guest",
        "properties": ["grand"],
        "groups": ["manager"],
        "threads": [1],
        "reservation": 7,
        "scp": "CHAT",
        "tid": "t",
        "device": "d",
        "display": "D",
        "sub": "somebody else",
        "exp": "not looked at",
    }
    assert principal_from_claims(claims, names) == Principal(
        sub="42",
        kind=Kind.GUEST,
        hotels=(HotelGrant("grand", None, frozenset({Role.MANAGER})),),
        all_hotels=False,
        roles=frozenset({Role.MANAGER}),
        staff_id="42",
        conversations=frozenset({"1"}),
        booking_id="7",
        scopes=frozenset({GuestScope.CHAT}),
        jti="t",
        sid="d",
        name="D",
        iat=1.0,
        exp=99.0,
    )
    with pytest.raises(TokenInvalid, match='claim "until" must be a number'):
        principal_from_claims({**claims, "until": "99"}, names)
    with pytest.raises(TokenInvalid, match='claim "user_id" is missing'):
        principal_from_claims({"sub": "42", "exp": 99}, names)

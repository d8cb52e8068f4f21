import hashlib
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pusher.pusher_client import PusherClient

from auth.apps import App
from auth.errors import RequestRefused
from auth.request_auth import sign_request, verify_request
from auth.signatures import sign

APP = App("3", "278d425bdf160c739803", "7ad3773142a6692b25b8")
NOW = 1_353_088_179.0
BODY = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"

Query = list[tuple[str, str]]

names = st.from_regex(r"[a-z][a-z_]{0,8}(\[[0-9]?\])?", fullmatch=True).filter(
    lambda name: not name.startswith(("auth_", "body_md5"))
)
params = st.dictionaries(names, st.text(max_size=10), max_size=4)
bodies = st.binary(max_size=40)


def signed(path: str, message_query: str) -> str:
    """Sign what a foreign library would, written out by hand."""
    return sign(APP.secret, f"GET\n{path}\n{message_query}")


def refusal(query: Query, *, body: bytes = BODY, path: str = "/apps/3/events") -> str:
    """Return the reason for which a POST is refused; it must be with 401."""
    with pytest.raises(RequestRefused) as caught:
        verify_request(APP, "POST", path, query, body, NOW)
    assert caught.value.status == 401
    return caught.value.reason


def with_param(name: str, value: str | None) -> Query:
    """Sign a good POST and then change one parameter, or leave it out."""
    query = sign_request(APP, "POST", "/apps/3/events", BODY, NOW)
    changed = query | ({name: value} if value is not None else {})
    return [pair for pair in changed.items() if value is not None or pair[0] != name]


def resigned(name: str, value: str | None) -> Query:
    """Sign a request that has one wrong parameter from the beginning."""
    query = dict(with_param(name, value))
    del query["auth_signature"]
    line = "&".join(f"{key}={query[key]}" for key in sorted(query))
    return [*query.items(), ("auth_signature", sign(APP.secret, f"POST\n/apps/3/events\n{line}"))]


def test_request_signature_agrees_with_pushers_documentation() -> None:
    """The documented request is made, and accepted."""
    query = sign_request(APP, "POST", "/apps/3/events", BODY, NOW)
    assert query == {
        "auth_key": "278d425bdf160c739803",
        "auth_timestamp": "1353088179",
        "auth_version": "1.0",
        "body_md5": "ec365a775a4cd0599faeb73354201b6f",
        "auth_signature": "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
    }
    verify_request(APP, "POST", "/apps/3/events", list(query.items()), BODY, NOW)


def library_requests() -> list[object]:
    """Return one request of each kind that Pusher's Python library makes."""
    client = PusherClient(APP.id, APP.key, APP.secret, ssl=False, host="127.0.0.1", port=6001)
    return [
        client.trigger.make_request(["hotel.rooms", "private-x"], "e", {"name": "Zoë"}, "1.2"),
        client.trigger_batch.make_request([{"channel": "a", "name": "e", "data": "d"}]),
        client.channels_info.make_request("presence-", ["user_count", "subscription_count"]),
        client.channel_info.make_request("presence-x", ["user_count"]),
        client.channel_info.make_request("x=@,;"),
        client.users_info.make_request("presence-x"),
        client.terminate_user_connections.make_request("user=1,2@x"),
    ]


@pytest.mark.parametrize("index", range(7))
def test_request_signature_agrees_with_the_released_library(index: int) -> None:
    """Every request of Pusher's own library is accepted as it goes over the wire."""
    request: PusherClient = library_requests()[index]
    sent = int(request.query_params["auth_timestamp"])
    query = parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
    verify_request(APP, request.method, request.path, query, request.body, sent)
    with pytest.raises(RequestRefused, match="auth_signature does not match"):
        verify_request(APP, request.method, f"{request.path}x", query, request.body, sent)


def test_request_of_the_library_carries_the_md5_of_nothing_on_get() -> None:
    """The trap behind the check of body_md5 without a body is still there to be met."""
    query = library_requests()[2].query_params  # type: ignore[attr-defined]
    assert query["body_md5"] == EMPTY_MD5


@given(
    method=st.sampled_from(["GET", "POST", "get"]),
    params=params,
    body=bodies,
    offset=st.integers(-600, 600),
)
def test_request_signature_is_accepted_by_its_counterpart(
    method: str, params: dict[str, str], body: bytes, offset: int
) -> None:
    """What is signed here verifies here, whatever the query, in any order, near enough in time."""
    query = sign_request(APP, method, "/apps/3/x", body, NOW, params)
    shuffled = sorted(query.items(), key=lambda pair: pair[1])
    # Only entries of one list keep their order: PHP's a[0], a[1].
    assume(len({name.split("[")[0] for name in query}) == len(query))
    verify_request(APP, method, "/apps/3/x", shuffled, body, NOW + offset)


@given(params=params, body=bodies, data=st.data())
def test_request_signature_covers_everything(
    params: dict[str, str], body: bytes, data: st.DataObject
) -> None:
    """A change of method, path, any parameter or the body is refused."""
    query = sign_request(APP, "POST", "/apps/3/x", body, NOW, params)
    name = data.draw(st.sampled_from(sorted(query)))
    value = data.draw(st.text(max_size=70).filter(lambda value: value != query[name]))
    changed = list((query | {name: value}).items())
    added = [*query.items(), ("zz", value)]
    kept = list(query.items())
    for method, path, pairs, sent in [
        ("POST", "/apps/3/x", changed, body),
        ("POST", "/apps/3/x", added, body),
        ("POST", "/apps/3/x", [pair for pair in kept if pair[0] != name], body),
        ("POST", "/apps/3/x", kept, body + b"x"),
        ("POST", "/apps/4/x", kept, body),
        ("PUT", "/apps/3/x", kept, body),
    ]:
        with pytest.raises(RequestRefused):
            verify_request(APP, method, path, pairs, sent, NOW)


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("auth_signature", None, "auth_signature is missing"),
        ("auth_key", None, "auth_key is missing or is not the key of this app"),
        ("auth_key", "other", "auth_key is missing or is not the key of this app"),
        ("auth_version", None, "auth_version must be 1.0"),
        ("auth_version", "2.0", "auth_version must be 1.0"),
        ("auth_timestamp", None, "auth_timestamp is missing"),
        ("auth_timestamp", "", "auth_timestamp must be whole seconds since 1970"),
        ("auth_timestamp", "-5", "auth_timestamp must be whole seconds since 1970"),
        ("auth_timestamp", "1.5", "auth_timestamp must be whole seconds since 1970"),
        ("auth_timestamp", "1353088179\n", "auth_timestamp must be whole seconds since 1970"),
        ("auth_timestamp", "１２３", "auth_timestamp must be whole seconds since 1970"),
        ("auth_timestamp", "9" * 5000, "auth_timestamp must be whole seconds since 1970"),
        ("auth_timestamp", "1353086976", "auth_timestamp is 1203 s off; the limit is 600 s"),
        ("auth_timestamp", "1353088780", "auth_timestamp is 601 s off; the limit is 600 s"),
        ("body_md5", None, "body_md5 is missing; a request with a body needs it"),
        ("body_md5", "", "body_md5 is not the MD5 of the body as it arrived"),
        ("body_md5", EMPTY_MD5, "body_md5 is not the MD5 of the body as it arrived"),
    ],
)
def test_request_is_refused_naming_the_check_that_failed(
    name: str, value: str | None, reason: str
) -> None:
    """The reason names the parameter, even where a signature covers the wrong one."""
    assert refusal(with_param(name, value)) == reason
    if name != "auth_signature":
        assert refusal(resigned(name, value)) == reason


@pytest.mark.parametrize("signature", ["", "x", "é", "0" * 64])
def test_request_is_refused_when_the_signature_is_wrong(signature: str) -> None:
    """A wrong signature is refused, and the right one is not given away."""
    reason = refusal(with_param("auth_signature", signature))
    assert reason.startswith("auth_signature does not match: check the secret")
    assert sign_request(APP, "POST", "/apps/3/events", BODY, NOW)["auth_signature"] not in reason


@pytest.mark.parametrize("name", ["auth_key", "auth_timestamp", "auth_version", "auth_signature"])
def test_request_is_refused_when_an_auth_parameter_comes_twice(name: str) -> None:
    """A repeated parameter is a list, and no list is a key, a time or a signature."""
    query = sign_request(APP, "POST", "/apps/3/events", BODY, NOW)
    assert name in refusal([*query.items(), (name, query[name])])


@pytest.mark.parametrize("offset", [-600.0, 600.0, 0.5])
def test_request_is_accepted_when_the_clocks_differ_little(offset: float) -> None:
    """Ten minutes are within the limit, to the second."""
    query = list(sign_request(APP, "GET", "/apps/3/channels", b"", NOW).items())
    verify_request(APP, "GET", "/apps/3/channels", query, b"", NOW + offset)


@pytest.mark.parametrize("offset, off", [(-600.5, 601), (600.5, 601), (1e9, 1_000_000_000)])
def test_request_is_refused_when_the_clocks_differ(offset: float, off: int) -> None:
    """More than ten minutes are over the limit, and the reason never says that they are equal."""
    query = list(sign_request(APP, "GET", "/apps/3/channels", b"", NOW).items())
    with pytest.raises(RequestRefused) as caught:
        verify_request(APP, "GET", "/apps/3/channels", query, b"", NOW + offset)
    assert caught.value.reason == f"auth_timestamp is {off} s off; the limit is 600 s"


AUTH_LINE = "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0"
AUTH_PAIRS: Query = [tuple(pair.split("=")) for pair in AUTH_LINE.split("&")]  # type: ignore[misc]


@pytest.mark.parametrize(
    "pairs, line",
    [
        ([("info", "user_count,cache")], f"{AUTH_LINE}&info=user_count,cache"),
        ([("info", "user_count"), ("info", "cache")], f"{AUTH_LINE}&info=user_count,cache"),
        ([("info[0]", "user_count"), ("info[1]", "cache")], f"{AUTH_LINE}&info=user_count,cache"),
        ([("info[]", "user_count"), ("info[]", "cache")], f"{AUTH_LINE}&info=user_count,cache"),
        ([("Filter_By_Prefix", "a b/é&=")], f"{AUTH_LINE}&filter_by_prefix=a b/é&="),
        ([("body_md5", EMPTY_MD5)], f"{AUTH_LINE}&body_md5={EMPTY_MD5}"),
        ([("body_md5", EMPTY_MD5.upper())], f"{AUTH_LINE}&body_md5={EMPTY_MD5.upper()}"),
        ([("a", ""), ("zz", "1")], f"a=&{AUTH_LINE}&zz=1"),
    ],
    ids=["plain", "repeated", "php-index", "php-empty", "case", "md5", "md5-case", "blank"],
)
def test_request_query_is_signed_as_the_libraries_do(pairs: Query, line: str) -> None:
    """Names in lower case and sorted, values decoded, lists joined: as each library signs them."""
    query = [*pairs, *AUTH_PAIRS, ("auth_signature", signed("/apps/3/channels", line))]
    verify_request(APP, "GET", "/apps/3/channels", query, b"", NOW)


@pytest.mark.parametrize(
    "sent, signed_path",
    [
        ("/users/a%20b/x", "/users/a b/x"),
        ("/users/a%20b/x", "/users/a%20b/x"),
        ("/users/%C3%A9/x", "/users/é/x"),
        ("/users/a=b,c/x", "/users/a=b,c/x"),
    ],
)
def test_request_path_is_accepted_raw_or_decoded(sent: str, signed_path: str) -> None:
    """A library may sign the path before or after its HTTP stack has escaped it."""
    query = [*AUTH_PAIRS, ("auth_signature", signed(signed_path, AUTH_LINE))]
    verify_request(APP, "GET", sent, query, b"", NOW)


def test_request_path_is_not_decoded_twice() -> None:
    """An escaped escape stays what it is: the path that is served is the path that was signed."""
    query = [*AUTH_PAIRS, ("auth_signature", signed("/users/a b/x", AUTH_LINE))]
    with pytest.raises(RequestRefused, match="auth_signature does not match"):
        verify_request(APP, "GET", "/users/a%2520b/x", query, b"", NOW)


def test_request_body_is_checked_as_it_came() -> None:
    """The same JSON spelled otherwise is another body."""
    body = b'{"a": 1}'
    query = list(sign_request(APP, "POST", "/apps/3/events", body, NOW).items())
    verify_request(APP, "POST", "/apps/3/events", query, body, NOW)
    assert dict(query)["body_md5"] == hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert refusal(query, body=b'{"a":1}') == "body_md5 is not the MD5 of the body as it arrived"


def test_request_without_a_body_needs_no_md5() -> None:
    """Libraries other than Python's send none with a GET."""
    query = sign_request(APP, "GET", "/apps/3/channels", b"", NOW, {"info": "user_count"})
    assert "body_md5" not in query
    assert query["info"] == "user_count"
    verify_request(APP, "GET", "/apps/3/channels", list(query.items()), b"", NOW)


@given(
    query=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=6), body=bodies
)
def test_request_is_only_ever_refused_with_401(query: Query, body: bytes) -> None:
    """No query makes the check fail in any other way."""
    refusal(query, body=body)

import pytest

from auth.apps import App, AppRegistry, Limits, Webhook, WebhookKind

FIRST = App("1", "key-1", "secret-1")
SECOND = App("2", "key-2", "secret-2", enabled=False)


def test_app_never_shows_its_secret() -> None:
    """An app in a log or a traceback keeps its secret."""
    assert "secret-1" not in repr(FIRST)
    assert repr(FIRST).startswith("App(id='1', key='key-1', enabled=True, ")
    assert "hush" not in repr(App("1", "k", "s", webhooks=(Webhook("http://u:hush@h/?hush"),)))


@pytest.mark.parametrize("field", ["id", "key", "secret"])
def test_app_refuses_an_empty_field(field: str) -> None:
    """An app that anybody could sign for does not come to be."""
    fields = {"id": "1", "key": "key", "secret": "secret"} | {field: ""}
    with pytest.raises(ValueError, match=f"an app needs a {field}"):
        App(fields["id"], fields["key"], fields["secret"])


@pytest.mark.parametrize("app_id", ["a:b", "{a", "a}"])
def test_app_refuses_an_id_that_would_end_inside_a_redis_key(app_id: str) -> None:
    """`{app:channel}` names one app and one channel, however they are called."""
    with pytest.raises(ValueError, match="an app's id has no colon and no braces"):
        App(app_id, "key", "secret")


def test_app_has_pushers_limits() -> None:
    """What nobody set is what a backend knows from pusher.com."""
    assert FIRST.limits == Limits(
        max_connections=20_000,
        max_subscriptions=1_000,
        client_events_per_s=10,
        presence_members=100,
        presence_bytes=1_024,
        watchlist=100,
    )
    assert (FIRST.origins, FIRST.client_events, FIRST.subscription_count, FIRST.webhooks) == (
        None,
        True,
        False,
        (),
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/hook",
        "https://user:password@b.example/hook?token=x",
        "https://[::1]:1/",
        "http://b",
    ],
)
def test_webhook_takes_http_urls(url: str) -> None:
    """Whatever a backend may have."""
    assert Webhook(url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "b.example",
        "//b.example/",
        "ftp://b.example/",
        "http://",
        "http:///path",
        "http://b:0/",
        "http://b:65536/",
        "http://b:x/",
        "http://[::1/",
        "http://b/a b",
        "http://b/\n",
        "http://b/\x00",
    ],
)
def test_webhook_refuses_what_is_no_http_url(url: str) -> None:
    """It is refused where it is set, not at the first event, and not repeated."""
    with pytest.raises(ValueError, match=r"^not of the form http://HOST/PATH") as caught:
        Webhook(url)
    assert "b.example" not in str(caught.value)


@pytest.mark.parametrize(
    "webhook, wanted",
    [
        (Webhook("http://b"), {("client_event", "private-a"), ("cache_miss", "Cache-b")}),
        (Webhook("http://b", frozenset({WebhookKind.CACHE_MISS})), {("cache_miss", "Cache-b")}),
        (Webhook("http://b", channels="private-*"), {("client_event", "private-a")}),
        (
            Webhook("http://b", channels="*-?"),
            {("client_event", "private-a"), ("cache_miss", "Cache-b")},
        ),
        (Webhook("http://b", channels="cache-b"), set()),
        (Webhook("http://b", channels="rivate-a"), set()),
        (Webhook("http://b", frozenset({WebhookKind.CACHE_MISS}), "private-*"), set()),
    ],
)
def test_webhook_wants_its_kinds_on_its_channels(
    webhook: Webhook, wanted: set[tuple[str, str]]
) -> None:
    """Both must fit; what is not named does not matter; a pattern is for the whole name."""
    events = [("client_event", "private-a"), ("cache_miss", "Cache-b")]
    assert {each for each in events if webhook.wants(WebhookKind(each[0]), each[1])} == wanted


def test_registry_finds_apps_by_key_and_by_id() -> None:
    """Every app is found by both of its names, a disabled one too; nothing else is."""
    registry = AppRegistry([FIRST, SECOND])
    assert [registry.by_id("1"), registry.by_id("2"), registry.by_id("key-1")] == [
        FIRST,
        SECOND,
        None,
    ]
    assert [registry.by_key("key-1"), registry.by_key("key-2"), registry.by_key("1")] == [
        FIRST,
        SECOND,
        None,
    ]


def test_registry_iterates_in_the_order_given() -> None:
    """The order of the configuration is kept."""
    assert list(AppRegistry(iter([SECOND, FIRST]))) == [SECOND, FIRST]
    assert list(AppRegistry([])) == []


@pytest.mark.parametrize(
    "twin, message",
    [
        (App("1", "key-9", "secret"), "two apps have the id '1'"),
        (App("9", "key-1", "secret"), "two apps have the key 'key-1'"),
    ],
    ids=["id", "key"],
)
def test_registry_refuses_apps_that_share_a_name(twin: App, message: str) -> None:
    """Two apps of one id or one key would answer for each other."""
    with pytest.raises(ValueError, match=message):
        AppRegistry([FIRST, SECOND, twin])

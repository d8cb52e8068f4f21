import pytest

from auth.apps import App, AppRegistry

FIRST = App("1", "key-1", "secret-1")
SECOND = App("2", "key-2", "secret-2", enabled=False)


def test_app_never_shows_its_secret() -> None:
    """An app in a log or a traceback keeps its secret."""
    assert repr(FIRST) == "App(id='1', key='key-1', enabled=True)"


@pytest.mark.parametrize("field", ["id", "key", "secret"])
def test_app_refuses_an_empty_field(field: str) -> None:
    """An app that anybody could sign for does not come to be."""
    fields = {"id": "1", "key": "key", "secret": "secret"} | {field: ""}
    with pytest.raises(ValueError, match=f"an app needs a {field}"):
        App(fields["id"], fields["key"], fields["secret"])


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

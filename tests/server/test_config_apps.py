"""Apps in the settings: each has its own, and the environment alone is enough for one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from auth.apps import App, Limits, Webhook, WebhookKind
from server.config import LimitSettings, app_registry
from tests.server.test_config import APP, load, problems

FULL = """
[app]
enabled = false
origins = ["https://desk.example"]
client_events = false
subscription_count = true
[app.limits]
max_connections = 1
max_subscriptions = 2
client_events_per_s = 3
presence_members = 4
presence_bytes = 5
watchlist = 0
[[app.webhooks]]
url = "https://b.example/all"
[[app.webhooks]]
url = "http://b.example/some"
kinds = ["member_added", "member_removed"]
channels = "presence-*"
[[apps]]
id = "2"
key = "k2"
secret = "s2"
[[apps.webhooks]]
url = "https://two.example/"
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_apps_have_settings_of_their_own() -> None:
    """What the file says of each, with the keys that the environment gives the default one."""
    hook = "https://environment.example/hook"
    settings = load(FULL, {**APP, "BELLHOP_WEBHOOK_URL": hook})
    members = frozenset({WebhookKind.MEMBER_ADDED, WebhookKind.MEMBER_REMOVED})
    assert list(app_registry(settings, [])) == [
        App(
            "1",
            "k",
            "s",
            enabled=False,
            origins=("https://desk.example",),
            limits=Limits(1, 2, 3, 4, 5, 0),
            client_events=False,
            subscription_count=True,
            webhooks=(
                Webhook("https://b.example/all"),
                Webhook("http://b.example/some", members, "presence-*"),
                Webhook(hook),
            ),
        ),
        App("2", "k2", "s2", webhooks=(Webhook("https://two.example/"),)),
    ]


def test_environment_alone_makes_an_app_with_the_defaults() -> None:
    """Three variables are enough; the settings' defaults are the app's own."""
    assert list(app_registry(load(environment=APP), [])) == [App("1", "k", "s")]
    assert LimitSettings().model_dump() == asdict(Limits())


def test_webhook_of_the_environment_is_of_the_default_app() -> None:
    """The first of the file where the environment names none; without any app, of nobody."""
    toml = "".join(f"[[apps]]\nid = '{i}'\nkey = 'k{i}'\nsecret = 's'\n" for i in (2, 3))
    hook = "https://b.example/hook"
    first, second = app_registry(load(toml, {"BELLHOP_WEBHOOK_URL": hook}), [])
    assert (first.webhooks, second.webhooks) == ((Webhook(hook),), ())
    told: list[str] = []
    assert list(app_registry(load("", {"BELLHOP_WEBHOOK_URL": hook}), told)) == []
    assert told == [
        "app.id (PUSHER_APP_ID): missing",
        "app.key (PUSHER_KEY): missing",
        "app.secret (PUSHER_SECRET): missing",
    ]


def test_apps_that_cannot_be_told_apart_are_a_problem() -> None:
    """Two apps of one id; or a key that is empty."""
    told: list[str] = []
    toml = "[[apps]]\nid = '1'\nkey = '{}'\nsecret = 's'\n"
    assert list(app_registry(load(toml.format("k2"), APP), told)) == []
    assert list(app_registry(load(toml.format("")), told)) == []
    assert told == ["app: two apps have the id '1'", "app: an app needs a key"]


@pytest.mark.parametrize(
    "toml, path, cause",
    [
        ("id = '1:2'", "apps.0.id", "an app's id has no colon and no braces"),
        ("origin = []", "apps.0.origin", "there is no such setting"),
        ("limits.max = 1", "apps.0.limits.max", "there is no such setting"),
        ("limits.presence_members = 0", "apps.0.limits.presence_members", "Input should be"),
        ("limits.watchlist = -1", "apps.0.limits.watchlist", "Input should be"),
        ("webhooks = [{}]", "apps.0.webhooks.0.url", "missing"),
        ("webhooks = [{url='ftp://x/hush'}]", "apps.0.webhooks.0.url", "not of the form http"),
        ("webhooks = [{url='http://x', kinds=['x']}]", "apps.0.webhooks.0.kinds.0", "Input should"),
        ("webhooks = [{url='http://x', kind=[]}]", "apps.0.webhooks.0.kind", "there is no such"),
    ],
)
def test_fault_in_an_app_is_told_with_its_path(toml: str, path: str, cause: str) -> None:
    """Each key is known, in range, and its value not repeated."""
    given = {"id": "'1'", "key": "'k'", "secret": "'s'"}
    rows = [f"{name} = {value}" for name, value in given.items() if not toml.startswith(name)]
    (problem,) = problems("[[apps]]\n" + "\n".join([*rows, toml]))
    assert problem.startswith(f"{path}: {cause}")
    assert "hush" not in problem


def test_webhook_of_the_environment_is_checked() -> None:
    """With the variable's name, and nothing of its value."""
    assert problems("", {"BELLHOP_WEBHOOK_URL": "b.example/hush"}) == (
        "webhook_url (BELLHOP_WEBHOOK_URL): not of the form http://HOST/PATH or https://HOST/PATH",
    )

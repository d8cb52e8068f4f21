"""What is tried with released clients: the features, the clients, and their versions."""

from __future__ import annotations

import importlib.metadata
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from enum import Enum, StrEnum
from functools import cache
from typing import Any, Final

import pytest

from tests.harness import ROOT

_POM: Final = ROOT / "tests" / "clients" / "java" / "pom.xml"
_MAVEN: Final = {"m": "http://maven.apache.org/POM/4.0.0"}


class Kind(Enum):
    """A released client and where it runs: its column in the table, and the package it is."""

    NODE = ("pusher-js in Node.js", "npm", "pusher-js")
    PAGE = ("pusher-js in Chromium", "npm", "pusher-js")
    WORKER = ("pusher-js in a worker", "npm", "pusher-js")
    ECHO = ("laravel-echo in Chromium", "npm", "laravel-echo")
    PYSHER = ("Pysher", "pypi", "Pysher")
    JAVA = ("pusher-java-client", "maven", "pusher-java-client")
    PYTHON_BACKEND = ("pusher for Python", "pypi", "pusher")
    NODE_BACKEND = ("pusher for Node.js", "npm", "pusher")

    def __init__(self, title: str, registry: str, package: str) -> None:
        self.title = title
        self.registry = registry
        self.package = package

    @property
    def version(self) -> str:
        """The version that is pinned, and so the one that runs."""
        match self.registry:
            case "npm":
                return str(_npm_lock()[f"node_modules/{self.package}"]["version"])
            case "pypi":
                return importlib.metadata.version(self.package)
            case _:
                return _maven_version(self.package)


PUSHER_JS: Final = (Kind.NODE, Kind.PAGE, Kind.WORKER)
JAVASCRIPT: Final = (*PUSHER_JS, Kind.ECHO)
SUBSCRIBERS: Final = (*JAVASCRIPT, Kind.PYSHER, Kind.JAVA)
BACKENDS: Final = (Kind.PYTHON_BACKEND, Kind.NODE_BACKEND)


class Feature(StrEnum):
    """The rows of the table, in its order."""

    CONNECT = "connects, and is told a socket id"
    DROPPED = "comes back after its connection was cut, with its subscriptions"
    STOPPED = "comes back after its node was stopped (4200) or killed"
    REFUSED_APP = "gives up on an unknown app (4001)"
    XHR_STREAMING = "over HTTP: `xhr_streaming`"
    XHR_POLLING = "over HTTP: `xhr_polling`"
    PUBLIC = "public channel: events, unsubscribe"
    TOKEN = "Bellhop's own channels, with a JWT"
    PRIVATE = "private channel, authorized by the backend's library"
    PRIVATE_REFUSED = "private channel, refused by the backend"
    ENDPOINT = "private and presence channels, authorized by `/pusher/auth` with a JWT"
    ENCRYPTED = "private-encrypted channel"
    CACHE = "cache channel: the last event, or cache_miss"
    PRESENCE = "presence channel: who is there, who comes and goes, each user once"
    PRESENCE_SIGNED_IN = "presence channel by signin alone, without channel_data"
    CLIENT_EVENTS = "client events: to the others, never back"
    CLIENT_EVENTS_USER = "client events on presence channels name the user"
    COUNT = "subscription_count"
    SIGNIN_ENDPOINT = "signin by an endpoint"
    SIGNIN_TOKEN = "signin by a customHandler with a JWT"
    TO_USER = "events to a user"
    WATCHLIST = "watchlist: online, offline"
    TERMINATED = "terminate_connections ends the user's connections for good (4009)"
    TRIGGER = "trigger: one channel, several, without one socket"
    BATCH = "trigger_batch"
    CHANNELS = "channels and one channel: occupied, user_count, subscription_count, cache"
    USERS = "users of a presence channel"
    ENCRYPTS = "encrypted events"
    AUTHORIZES = "authorizes channels and users"
    WEBHOOKS = "webhooks: signed and read by the library"


def feature(row: Feature, *kinds: Kind) -> pytest.MarkDecorator:
    """Mark a test of all these clients at once as one of a feature."""
    return pytest.mark.feature(row, kinds)


def each(kinds: Iterable[Kind]) -> pytest.MarkDecorator:
    """Parametrize a test's ``kind`` by clients; those that need a JVM are for the long run."""
    marks = {
        Kind.PAGE: [pytest.mark.browser],
        Kind.WORKER: [pytest.mark.browser],
        Kind.ECHO: [pytest.mark.browser],
        Kind.JAVA: [pytest.mark.long],
    }
    return pytest.mark.parametrize(
        "kind",
        [pytest.param(kind, id=kind.name.lower(), marks=marks.get(kind, ())) for kind in kinds],
    )


@cache
def _npm_lock() -> dict[str, Any]:
    lock: dict[str, Any] = json.loads((ROOT / "package-lock.json").read_bytes())["packages"]
    return lock


@cache
def _maven_version(artifact: str) -> str:
    for dependency in ET.parse(_POM).iterfind(".//m:dependency", _MAVEN):  # noqa: S314  our own file
        if dependency.findtext("m:artifactId", "", _MAVEN) == artifact:
            return dependency.findtext("m:version", "", _MAVEN)
    raise LookupError(artifact)

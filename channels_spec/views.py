"""Views: the same event with the fields that a role may see, computed once per publish.

Publishing makes one body per *distinct* content: where a view withholds nothing from this event, it
shares the body of the view above, so that the usual event is encoded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

from channels_spec.contract import ChannelFamily, EventSpec, ViewSpec

PLAIN_VIEW: Final = "plain"
"""The one view of a channel outside the contract."""

Body = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ViewedBodies:
    """The distinct bodies of one event and which of them each view gets."""

    bodies: tuple[Body, ...]
    views: tuple[tuple[str, int], ...]
    """(view's name, index in ``bodies``)."""


def guest_views(view: str, scope: str) -> tuple[str, ...]:
    """Names of a guest view under which an event with this guest scope goes out.

    A guest holds STATUS_READ, CHAT, or both; each combination is a view of its own, so that one
    subscriber is in one fan-out group and its events keep their order.
    """
    return view, f"{view}-chat" if scope == "CHAT" else f"{view}-status"


def viewed(family: ChannelFamily, event: EventSpec | None, body: Body, text: str) -> ViewedBodies:
    """Compute what each view of ``family`` sees of ``body`` (an envelope, or a legacy body).

    ``text`` is the body's JSON: a search in it spares most bodies the walk through their fields.
    """
    bodies: list[Body] = []
    views: list[tuple[str, int]] = []
    text = text.lower()
    for view in family.views:
        seen = body if _shows_all(view, text) else project(view, event, body)
        index = _place(bodies, seen)
        if event is not None and view.listed_fields_only:
            names = guest_views(view.name, event.guest_scope)
            views += [(name, index) for name in names]
        else:
            views.append((view.name, index))
    return ViewedBodies(tuple(bodies), tuple(views))


def _place(bodies: list[Body], seen: Body) -> int:
    """Return where a body stands among the distinct ones, which it joins if it is new."""
    for index, known in enumerate(bodies):
        if known is seen:
            return index
    bodies.append(seen)
    return len(bodies) - 1


def project(view: ViewSpec, event: EventSpec | None, body: Body) -> Body:
    """Return what ``view`` shows of ``body``: ``body`` itself where nothing is withheld."""
    if view.listed_fields_only:
        body = _listed(view, event, body)
    if not view.withhold:
        return body
    seen = _without(body, _withheld(view.withhold))
    return seen if isinstance(seen, dict) else body


def _shows_all(view: ViewSpec, text: str) -> bool:
    """Whether a search in the body's text, in lower case, shows that nothing is taken from it."""
    if view.listed_fields_only:
        return False
    return not any(beginning in text for beginning in _beginnings(view.withhold))


def _listed(view: ViewSpec, event: EventSpec | None, body: Body) -> Body:
    fields = event.fields if event is not None else ()
    meta, payload = body.get("meta"), body.get("payload")
    if not isinstance(meta, dict) or not isinstance(payload, dict):
        return {key: value for key, value in body.items() if key in fields}
    scope = meta.get("scope")
    kept_meta = {key: meta[key] for key in ("event_id", "hotel_slug", "ts") if key in meta}
    if isinstance(scope, dict):
        kept_meta["scope"] = {key: value for key, value in scope.items() if key in view.scope}
    return {
        "category": body.get("category"),
        "type": body.get("type"),
        "payload": {key: value for key, value in payload.items() if key in fields},
        "meta": kept_meta,
    }


def _without(value: object, withheld: Mapping[str, bool]) -> object:
    """Return a dict or list without the withheld keys; the same object where there are none."""
    # Copied only where something goes, and entered only where keys can be: for most events this
    # is the dearest step between their entrance and the broker.
    if isinstance(value, dict):
        kept: dict[str, object] | None = None
        for key, item in value.items():
            if withheld[key]:
                kept = kept if kept is not None else value.copy()
                del kept[key]
            elif item.__class__ is dict or item.__class__ is list:
                seen = _without(item, withheld)
                if seen is not item:
                    kept = kept if kept is not None else value.copy()
                    kept[key] = seen
        return value if kept is None else kept
    given = cast("list[object]", value)
    items: list[object] | None = None
    for index, item in enumerate(given):
        if item.__class__ is dict or item.__class__ is list:
            seen = _without(item, withheld)
            if seen is not item:
                items = items if items is not None else given.copy()
                items[index] = seen
    return given if items is None else items


@lru_cache(maxsize=64)
def _beginnings(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the JSON text of a key starts with, in lower case, for every withheld name."""
    return tuple(f'"{name[:-1]}' if name.endswith("*") else f'"{name}"' for name in names)


class _Withheld(dict[str, bool]):
    """Whether a key is withheld, remembered: the same keys come again and again."""

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self._exact = frozenset(name for name in names if not name.endswith("*"))
        self._prefixes = tuple(name[:-1] for name in names if name.endswith("*"))

    def __missing__(self, key: str) -> bool:
        """Look at a key that has not been seen yet."""
        lower = key.lower()
        withheld = lower in self._exact or lower.startswith(self._prefixes)
        if len(self) < _MAX_REMEMBERED and len(key) <= _LONGEST_REMEMBERED:
            self[key] = withheld
        return withheld


_MAX_REMEMBERED: Final = 4_096
_LONGEST_REMEMBERED: Final = 100
"""Keys that are remembered, and their characters: a producer chooses both."""

_withheld = lru_cache(maxsize=64)(_Withheld)

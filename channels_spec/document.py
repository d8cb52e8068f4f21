"""The contract's document: YAML in which everything has its line, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import yaml

OURS: Final = "x-bellhop-"
"""Begins the keys that are no part of AsyncAPI."""
VIEW_KEYS: Final = frozenset({"roles", "withhold", "listed-fields-only", "scope"})
CHANNEL_KEYS: Final = frozenset(
    OURS + key
    for key in (
        "audience",
        "authorizer",
        "categories",
        "client-events",
        "private-twin",
        "roles",
        "roster",
        "unlisted",
        "unlisted-not-of",
        "views",
    )
)
MESSAGE_KEYS: Final = frozenset(
    OURS + key
    for key in (
        "category",
        "conflate",
        "deprecated",
        "ends-stay",
        "fields",
        "guest-scope",
        "loggable",
        "max-bytes",
        "moves",
        "not-cards",
        "replay",
        "scope",
        "synonyms",
    )
)
MOVES_KEYS: Final = frozenset({"allowed", "field", "per"})
_REFERENCE: Final = "$ref"
_Loader: Final[type[yaml.SafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML has it, as its wheels do: four times as fast, at every start."""
_TEXT: Final = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
"""What a key may be: `no` is none in YAML, nor is `404`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document."""

    path: str
    """Keys from the root, with dots between them; empty where it is the whole document."""
    cause: str
    place: str = ""
    """``FILE:LINE``, or the file alone."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.path, self.cause) if part)


class ContractError(ValueError):
    """The contract document cannot be used; ``problems`` says where and why."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class Gathered:
    """Notes what is wrong in ``problems``, so that whoever edits a document is told all of it."""

    __slots__ = ("_problems",)

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> bool:
        if not isinstance(error, ContractError):
            return False
        self._problems.extend(error.problems)
        return True


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it was read."""

    file: Path
    content: object
    root: yaml.Node | None
    """``content`` before it became values: it knows the lines. ``None``: the file is empty."""

    def line_of(self, path: str) -> int:
        """Return the line of a path's last key, or of the last one that is there."""
        node, line = self.root, 1
        while path:
            found = _step(_resolved(self.root, node), path)
            if found is None:
                break
            line, node, path = found
        return line

    def refused(self, problems: list[Problem]) -> ContractError:
        """Return the error that tells each problem once, line by line."""
        told: dict[tuple[int, str], Problem] = {}
        for problem in problems:
            line = self.line_of(problem.path)
            # What several channels refer to is wrong in one place.
            told.setdefault((line, problem.cause), replace(problem, place=f"{self.file}:{line}"))
        return ContractError(
            *(problem for _, problem in sorted(told.items(), key=lambda item: item[0]))
        )


def read_document(file: Path) -> Document:
    """Read a YAML file; raises `ContractError` naming file, line and cause."""
    try:
        loader = _Loader(file.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        problems = list(_misleading(root, {}, ""))
        if problems:
            raise Document(file, None, root).refused(problems)
        return Document(file, loader.construct_document(root) if root is not None else None, root)
    except OSError as error:
        raise ContractError(Problem("", error.strerror or str(error), str(file))) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{file}:{mark.line + 1}" if mark is not None else str(file)
        cause = ", ".join(part for part in (error.context, error.problem) if part)
        raise ContractError(Problem("", f"not readable as YAML: {cause}", place)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        cause = " ".join(str(error).split())
        raise ContractError(Problem("", f"not readable as YAML: {cause}", str(file))) from None


def _misleading(node: yaml.Node | None, seen: dict[int, bool], path: str) -> Iterator[Problem]:
    """Find what YAML takes without a word: a key given twice or no text, a part inside itself.

    ``seen`` says of each node whether the walk is still inside it.
    """
    if not isinstance(node, yaml.CollectionNode) or seen.get(id(node)) is False:
        return
    if id(node) in seen:
        yield Problem(path, "an alias of what it stands in")
        return
    seen[id(node)] = True
    keys: set[str] = set()
    if isinstance(node, yaml.MappingNode):
        for key, _ in node.value:
            if key.tag not in _TEXT:
                cause = f"line {key.start_mark.line + 1} has a key that is no text: quote it"
                yield Problem(path, cause)
    for name, line, value in _items(node):
        where = f"{path}.{name}" if path else name
        if name in keys:
            yield Problem(where, f"given twice, again in line {line}")
        keys.add(name)
        yield from _misleading(value, seen, where)
    seen[id(node)] = False


def _items(node: yaml.Node | None) -> list[tuple[str, int, yaml.Node]]:
    """Return what is in a mapping or a list: key or index, line, value."""
    match node:
        case yaml.MappingNode():
            return [(str(key.value), key.start_mark.line + 1, value) for key, value in node.value]
        case yaml.SequenceNode():
            return [(str(i), item.start_mark.line + 1, item) for i, item in enumerate(node.value)]
        case _:
            return []


def _step(node: yaml.Node | None, path: str) -> tuple[int, yaml.Node, str] | None:
    """Take the path's first key: its line, its value, and the rest of the path."""
    # A key may have dots in it, and then another may be its beginning.
    for name, line, value in sorted(_items(node), key=lambda item: len(item[0]), reverse=True):
        if path == name or path.startswith(f"{name}."):
            return line, value, path[len(name) + 1 :]
    return None


def _resolved(root: yaml.Node | None, node: yaml.Node | None) -> yaml.Node | None:
    """Return what a node refers to; itself where it is no reference."""
    found = _step(node, _REFERENCE)
    if found is None:
        return node
    target = root
    for step in _steps(str(found[1].value)):
        known = _step(target, step)
        target = known[1] if known is not None else None
    return target


def _steps(reference: str) -> list[str]:
    return reference.removeprefix("#/").split("/")


# --- the values in it --------------------------------------------------------------------------


def resolved(document: Mapping[str, object], value: object, where: str) -> Mapping[str, object]:
    """Return a mapping that is given in its place or by reference."""
    spec = mapping(value, where)
    reference = spec.get(_REFERENCE)
    if reference is None:
        return spec
    target = _referred(document, str(reference))
    if target is None:
        raise ContractError(Problem(where, f"{reference} does not exist"))
    return mapping(target, ".".join(_steps(str(reference))))


def _referred(document: Mapping[str, object], reference: str) -> object:
    target: object = document
    for step in _steps(reference):
        target = target.get(step) if isinstance(target, dict) else None
    return target


def mapping(value: object, where: str) -> Mapping[str, object]:
    """Return a value that must be a mapping."""
    if not isinstance(value, dict):
        raise ContractError(Problem(where, "expected a mapping"))
    return cast("dict[str, object]", value)


def names(spec: Mapping[str, object], key: str, where: str) -> tuple[str, ...]:
    """Return a field that is a list of names; empty where it is missing."""
    value = spec.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ContractError(Problem(f"{where}.{key}", "expected a list of names"))
    return tuple(value)


def flag(spec: Mapping[str, object], key: str, where: str, *, default: bool = False) -> bool:
    """Return a field that is true or false."""
    value = spec.get(key, default)
    if not isinstance(value, bool):
        raise ContractError(Problem(f"{where}.{key}", "expected true or false"))
    return value


def number(spec: Mapping[str, object], key: str, where: str, *, most: int, default: int) -> int:
    """Return a field that is a whole number of at least 1."""
    value = spec.get(key, default)
    # In Python true is 1.
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ContractError(Problem(f"{where}.{key}", f"expected a whole number from 1 to {most}"))
    return value


def known_keys(
    spec: Mapping[str, object], known: frozenset[str], where: str, prefix: str = ""
) -> None:
    """Refuse a key that nothing reads: a misspelt rule would be no rule.

    Args:
        spec: what is looked at.
        known: the keys that there are.
        where: the path of ``spec``.
        prefix: only keys that begin with it are looked at.

    """
    unknown = [key for key in spec if str(key).startswith(prefix) and key not in known]
    if unknown:
        there_are = ", ".join(sorted(known))
        problems = (Problem(f"{where}.{key}", f"expected one of {there_are}") for key in unknown)
        raise ContractError(*problems)


def payload_schemas(message: Mapping[str, object], where: str) -> list[Mapping[str, object]]:
    """Return what a message says of its payload; it is an envelope with more said of it."""
    envelope = mapping(message.get("payload", {}), f"{where}.payload")
    parts = envelope.get("allOf", [envelope])
    return [
        properties["payload"]
        for part in (parts if isinstance(parts, list) else [])
        if isinstance(part, dict) and isinstance(properties := part.get("properties"), dict)
        if isinstance(properties.get("payload"), dict)
    ]


def payload_fields(
    document: Mapping[str, object], message: Mapping[str, object], where: str
) -> dict[str, list[object]]:
    """Return the fields that a message's payload is said to have, each with all of its schemas."""
    found: dict[str, list[object]] = {}
    for schema in payload_schemas(message, where):
        for part in schema_parts(document, schema):
            for name, field in mapping(part.get("properties", {}), f"{where}.payload").items():
                found.setdefault(name, []).append(field)
    return found


def schema_parts(
    document: Mapping[str, object], schema: object, above: tuple[str, ...] = ()
) -> Iterator[Mapping[str, object]]:
    """Yield the schemas that all hold where one does; it was referred to by those ``above``."""
    # Where any schema may stand, `true` may: it says nothing.
    if not isinstance(schema, dict):
        return
    reference = schema.get(_REFERENCE)
    if reference is None:
        yield schema
        for part in schema.get("allOf", []):
            yield from schema_parts(document, part, above)
    elif reference not in above:
        target = _referred(document, reference)
        yield from schema_parts(document, target, (*above, reference))

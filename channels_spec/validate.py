"""Checking payloads against their JSON Schemas."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final

import jsonschema_rs

from channels_spec.faults import Fault, pointer

_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""AsyncAPI's schemas are a superset of this draft."""
MAX_FAULTS: Final = 20
"""Faults that are told of one payload."""


class PayloadCheck:
    """The schema of one event's payload, compiled."""

    __slots__ = ("_validator",)

    def __init__(self, schema: Mapping[str, object], schemas: Mapping[str, object]) -> None:
        """Compile a schema; raises `ValueError` where it is none.

        Args:
            schema: of the payload; it may refer to ``#/components/schemas/…``.
            schemas: what stands there.

        """
        root = {
            "$schema": _DIALECT,
            # In this draft nothing counts beside a $ref; inside allOf everything does.
            "allOf": [schema],
            "components": {"schemas": schemas},
        }
        self._validator = jsonschema_rs.validator_for(
            root,
            # A fault goes into logs, and a payload must not.
            mask="the value",
            # What a date looks like is its readers' affair: no producer is refused over an offset.
            validate_formats=False,
        )

    def faults(self, payload: object) -> list[Fault]:
        """Return what is wrong with a payload, by JSON pointer from the envelope's root."""
        if self._validator.is_valid(payload):
            return []
        errors = islice(self._validator.iter_errors(payload), MAX_FAULTS)
        return [Fault(pointer(("payload", *e.instance_path)), e.message) for e in errors]

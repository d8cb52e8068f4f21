"""Secrets that stand in files of their own, as container platforms hand them over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

SUFFIX: Final = "_FILE"


def read_secret_files(
    environment: Mapping[str, str], variables: Iterable[str]
) -> tuple[dict[str, str], list[str]]:
    """Read the file that `NAME_FILE` names, for each variable `NAME` that may hold a secret.

    Returns the secrets by the plain variable, each without the newline at its end, and one line
    for each that cannot be had.
    """
    secrets: dict[str, str] = {}
    problems: list[str] = []
    for plain in variables:
        variable = plain + SUFFIX
        file = environment.get(variable)
        if not file:
            continue
        try:
            secret = Path(file).read_text(encoding="utf-8").removesuffix("\n")
        except OSError as error:
            problems.append(f"{variable}: {file}: {error.strerror or error}")
        except UnicodeDecodeError:
            problems.append(f"{variable}: {file}: not text in UTF-8")
        else:
            secrets[plain] = secret
            if not secret:
                problems.append(f"{variable}: {file}: is empty")
            if environment.get(plain):
                problems.append(f"{variable}: {plain} is set too; set one of them")
    return secrets, problems

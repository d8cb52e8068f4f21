"""How the Java client is run: its driver from source, with the jars that `make java` fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent


def java_command() -> tuple[str, ...]:
    """Return the command; without the jars an error says what to do."""
    jars = _HERE / "lib"
    if not any(jars.glob("pusher-java-client-*.jar")):
        raise FileNotFoundError(f"no Java client in {jars}: run `make java`")
    return ("java", "-cp", f"{jars}/*", str(_HERE / "JavaClients.java"))

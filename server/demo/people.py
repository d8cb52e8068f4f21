"""Who stays at the simulated hotel, and what they ask for: the words the simulation draws from."""

from __future__ import annotations

import random
from collections.abc import Container
from typing import Final

_FIRST_NAMES: Final = [
    "Aisling",
    "Brendan",
    "Caoimhe",
    "Declan",
    "Eimear",
    "Fergus",
    "Gráinne",
    "Hugh",
    "Íde",
    "Jarlath",
    "Kathleen",
    "Lorcan",
    "Maeve",
    "Niall",
    "Orla",
    "Pádraig",
    "Róisín",
    "Seamus",
    "Tara",
    "Una",
    "Anneliese",
    "Bastien",
    "Chiara",
    "Dmitri",
    "Elena",
    "Freya",
    "Giulia",
    "Hiroshi",
    "Ingrid",
    "Joaquín",
    "Keiko",
    "Lucía",
    "Marek",
    "Noor",
    "Oluwaseun",
    "Priya",
    "Rafael",
    "Sanna",
    "Tomasz",
    "Yara",
]

_LAST_NAMES: Final = [
    "Brosnan",
    "Casey",
    "Daly",
    "Fitzgerald",
    "Foley",
    "Griffin",
    "Healy",
    "Keane",
    "Looney",
    "Lynch",
    "MacCarthy",
    "Moriarty",
    "Murphy",
    "Nagle",
    "O'Connor",
    "O'Leary",
    "O'Shea",
    "O'Sullivan",
    "Quill",
    "Sheehan",
    "Twomey",
    "Walsh",
    "Andersson",
    "Bakker",
    "Costa",
    "Dubois",
    "Ferrari",
    "Haddad",
    "Iyer",
    "Jansen",
    "Kowalski",
    "Lindqvist",
    "Moreau",
    "Nakamura",
    "Okafor",
    "Pereira",
    "Rossi",
    "Schneider",
    "Tanaka",
    "Weber",
]

SOURCES: Final = ("Website", "Phone", "Walk-in", "Travel agent", "Corporate")

REQUESTS: Final = (
    "Late arrival",
    "Cot in room",
    "Quiet room",
    "High floor please",
    "Feather-free pillows",
    "Anniversary",
    "Early breakfast",
    "Two keys",
)

CANCELLATION_REASONS: Final = (
    "Guest requested",
    "Flight cancelled",
    "Change of plans",
    "Booked by mistake",
)

FAULTS: Final = (
    "Radiator cold",
    "Shower drain slow",
    "Bedside lamp broken",
    "Window latch loose",
    "Air conditioning noisy",
    "Safe will not open",
    "Leak under basin",
    "Door lock battery low",
    "No television signal",
)


_WITH_DEPOSIT: Final = 0.6


def draw_deposit(rng: random.Random) -> str | None:
    """Draw what was paid in advance, in euro with two decimals, or that nothing was."""
    return f"{rng.randint(4, 18) * 10}.00" if rng.random() < _WITH_DEPOSIT else None


def draw_party(rng: random.Random, size: int, taken: Container[str]) -> tuple[str, ...]:
    """Draw ``size`` full names that share a family name; the first is none of ``taken``."""
    while True:
        family = rng.choice(_LAST_NAMES)
        party = tuple(f"{first} {family}" for first in rng.sample(_FIRST_NAMES, size))
        if party[0] not in taken:
            return party


def draw_companions(rng: random.Random, primary: str, count: int) -> tuple[str, ...]:
    """Draw ``count`` people of the primary guest's family, none with that guest's first name."""
    first, family = primary.split(maxsplit=1)
    names = [name for name in _FIRST_NAMES if name != first]
    return tuple(f"{name} {family}" for name in rng.sample(names, count))

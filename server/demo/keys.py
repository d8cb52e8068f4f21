"""The demo's keys: fixed, printed, known to everybody. `bellhop serve` refuses them."""

from typing import Final

DEMO_APP_ID: Final = "1"
DEMO_KEY: Final = "bellhop-demo"
DEMO_SECRET: Final = "bellhop-demo-secret-known-to-all"  # noqa: S105  that is its point
DEMO_JWT_SECRET: Final = "bellhop-demo-jwt-secret-known-to-all"  # noqa: S105  likewise
DEMO_HOTEL: Final = "hotel-killarney"
DEMO_HOTEL_ID: Final = 1

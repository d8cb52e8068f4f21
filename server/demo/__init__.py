"""The demonstration: a simulated hotel, the backend that publishes it, and a front-desk page."""

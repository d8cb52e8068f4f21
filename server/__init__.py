"""The machine: sockets, broker, fan-out, HTTP, and the command line over them."""

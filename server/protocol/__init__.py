"""The Pusher protocol without I/O: text and time in, effects out."""

"""What may be said, where, and who may hear it: the contract, and Pusher's own constants."""

from channels_spec.build import InvalidEvent, event

__all__ = ["InvalidEvent", "event"]

"""Webhooks: what happens on an app's channels is told to its backend by signed POSTs."""

from server.webhooks.emitter import Webhooks

__all__ = ["Webhooks"]

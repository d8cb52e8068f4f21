"""What is asked over HTTP: Pusher's API for backends, authorization for clients, health."""

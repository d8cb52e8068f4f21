"""What may be said, where, and who may hear it: the contract, and Pusher's own constants."""

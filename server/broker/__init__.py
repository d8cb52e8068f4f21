"""The way between nodes: Redis or Valkey, through one interface."""

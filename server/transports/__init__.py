"""The wires on which clients come."""

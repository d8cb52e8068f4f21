"""Who is speaking, and what they may do: pure functions and values, with no I/O and no clock."""

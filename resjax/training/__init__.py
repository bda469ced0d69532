"""Training of a network, from a plan to compiled steps; nothing here writes to a disk."""

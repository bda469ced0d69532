"""Training of a network, from a plan to compiled steps; runs on a disk are in `resjax.runs`."""

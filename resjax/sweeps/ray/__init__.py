"""The Ray launcher: trains each run of a grid as a Ray task, in a separate process."""

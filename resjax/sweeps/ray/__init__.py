"""The Ray launcher: each run of a grid is a Ray task, in a process of its own."""

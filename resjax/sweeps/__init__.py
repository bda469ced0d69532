"""A sweep is a grid of runs; what is done is never run again."""

"""Sweeps: grids of runs. Runs that are done are never trained again."""

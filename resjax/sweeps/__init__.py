"""Sweeps: grids of runs, of which none that is done is ever run again."""

"""The Ray launcher: each run of a grid is a Ray task, in a process of its own."""

import os

# Ray reads it when imported. By default it prints similar lines of several runs only once.
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

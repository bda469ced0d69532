"""The Ray launcher: each run of a grid is a Ray task, in a process of its own."""

import os

# Ray reads it when imported; of two runs that go on it would tell of the first alone.
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

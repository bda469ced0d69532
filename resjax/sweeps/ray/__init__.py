"""The Ray launcher: trains each run of a grid as a Ray task, in a separate process."""

import os

# Ray reads it when imported. By default it prints similar lines of several runs only once.
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

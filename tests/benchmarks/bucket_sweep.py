"""Trains a sweep by many processes of two machines in one bucket, and kills some of them.

    python -m tests.benchmarks.bucket_sweep --runs=24 --processes=8 --kills=2

Every run must be trained once, but for those whose process was killed, which go on from what
was uploaded; and none must be lost. The machines are scratch directories.
"""

import argparse
import collections
import os
import tempfile
import time
from pathlib import Path

from tests.buckets.servers import Simulated
from tests.sweeps.test_shared_bucket import assert_trained_once, swept
from tests.zygote import Zygote


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--kind", choices=("s3", "gs"), default="s3")
    options = parser.parse_args()
    simulated = Simulated(options.kind)
    os.environ.update(simulated.environment)
    with Zygote() as zygote, tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        directory = Path(name, "sweep")
        directory.mkdir()
        sizes = options.runs, options.processes, options.kills
        events = swept(zygote, simulated, directory, *sizes)
        went_on = assert_trained_once(events, options.kills)
        requests = collections.Counter(method for method, _ in simulated.faults.seen)
        print(
            f"{options.runs} runs by {options.processes} processes on 2 machines, {options.kills} "
            f"killed: each done once, {went_on} of them begun twice; "
            f"{time.monotonic() - began:.0f} s, requests {dict(requests)}"
        )


if __name__ == "__main__":
    main()

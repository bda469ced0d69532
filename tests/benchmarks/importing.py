"""What it takes to import the weights of a ResNet-152: seconds, and memory beside its own.

    python -m tests.benchmarks.importing [--rounds=3]

The file is one that torchvision would write (extra `torch`, and torchvision). The command is a
process, timed from its start to its end; the peak of its memory is less that of one which imports a
network of 0.3 MB, so what Python and JAX take is not in it. Linux tells the peak.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import safetensors.torch

from tests.interop.peers import ForCifar, torchvision
from tests.interop.test_size import peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        networks = {"resnet20 of CIFAR": ForCifar(3), "ResNet-152": torchvision.models.resnet152()}
        print(f"medians of {options.rounds} processes\n\n"
              "| network | file MB | seconds | peak beside the first MB | of the file |\n"
              "|---|---|---|---|---|")  # fmt: skip
        first = None
        for name, network in networks.items():
            file = place / f"{name}.safetensors"
            safetensors.torch.save_file(network.state_dict(), file)
            seconds, peaks = [], []
            for number in range(options.rounds):
                start = time.perf_counter()
                peaks.append(peak(file, place / f"{name} {number}"))
                seconds.append(time.perf_counter() - start)
            size, most = file.stat().st_size, statistics.median(peaks)
            first = most if first is None else first
            print(f"| {name} | {size / 1e6:.1f} | {statistics.median(seconds):.1f} "
                  f"| {(most - first) / 1e6:.0f} | {(most - first) / size:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()

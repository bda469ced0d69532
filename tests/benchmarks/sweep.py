"""The default degradation sweep as a whole, beside the same grid trained by PyTorch.

    python -m tests.benchmarks.sweep

Times the command `resjax sweep` three times, each in a new process: with nothing compiled yet, for
a second seed with what the first has compiled, and again when all is done. PyTorch trains the same
twelve networks for the same steps, in its faster memory format, and evaluates both splits as
often. It needs the extra `bench`.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.peers import Net, torch_step

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "degradation.py"
BATCH, EPOCHS, TRAIN, TEST = 64, 15, 1437, 360


def ours(home: Path, seed: int) -> float:
    """Seconds of the command, with its caches and runs under `home`."""
    words = [sys.executable, "-m", "resjax", "sweep", f"--config={EXPERIMENT}",
             "--sweep=depth,shortcut", f"--config.seed={seed}",
             f"--workdir={home / 'runs'}"]  # fmt: skip
    environment = {**os.environ, "XDG_CACHE_HOME": str(home / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    start = time.perf_counter()
    subprocess.run(words, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def torch_grid() -> float:
    """Seconds of a process that trains the grid with PyTorch."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", __spec__.name, "--torch"], check=True)
    return time.perf_counter() - start


def train_with_torch() -> None:
    steps = EPOCHS * TRAIN // BATCH
    for depth in (8, 20, 56):
        for shortcut in ("none", "identity", "projection", "projection_all"):
            stages = ((depth - 2) // 6,) * 3
            net = Net(stages, (8, 16, 32), 1, False, shortcut, (8, 8, 1), 10)
            step, evaluate = torch_step(net, BATCH, channels_last=True, evaluated=TRAIN + TEST)
            for number in range(1, steps + 1):
                step()
                if number % (steps // EPOCHS) == 0:
                    evaluate()


def main() -> None:
    if sys.argv[1:] == ["--torch"]:
        train_with_torch()
        return
    with tempfile.TemporaryDirectory() as directory:
        cold = ours(Path(directory), 0)
        peer = torch_grid()
        warm = ours(Path(directory), 1)
        peer = min(peer, torch_grid())
        again = ours(Path(directory), 1)
    print("| sweep | seconds | over PyTorch |")
    print("|---|---|---|")
    print(f"| resjax, nothing compiled | {cold:.1f} | {cold / peer:.2f} |")
    print(f"| resjax, another seed | {warm:.1f} | {warm / peer:.2f} |")
    print(f"| resjax, all done | {again:.1f} | {again / peer:.2f} |")
    print(f"| PyTorch, the same grid | {peer:.1f} | 1 |")


if __name__ == "__main__":
    main()

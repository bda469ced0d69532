"""Deep plain networks trained for longer (He et al. 2015, section 4.1).

Question: do deep plain networks only need more steps? He et al. 2015, section 4.1, tried three
times as many and found degradation all the same. Plain and identity networks of 20 and 56 layers
are trained on digits by the recipe of degradation.py, for as long as there, three times and nine
times as long; the cosine of the learning rate is stretched with the run.

Result: three times as many help and do not suffice, and nine times as many do not help every seed.
Three times as many leave the deep plain network with 22 to 36 % of its training set wrong, where it
had 50 to 54. Nine times as many leave one seed with 3 %, another with 25 and the last with 53, more
than after the shortest run: how large the gap is, and with three seeds even whether there is one,
depends on the length of the run. Plain networks of 20 layers, and identity networks of both depths,
get nothing wrong from the shortest run on; longer runs lower their losses.

    resjax sweep --config=experiments/duration.py --workdir=runs/duration
"""

from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from resjax.sweeps.experiment import load_experiment

RECIPE = Path(__file__).with_name("degradation.py")


def get_config() -> ConfigDict:
    """The recipe of degradation.py, evaluated a few times."""
    config = load_experiment(str(RECIPE))[1]
    config.eval.every = "5 epochs"
    return config


def sweep_duration() -> Iterator[dict]:
    for epochs in (15, 45, 135):
        yield {"train.duration": f"{epochs} epochs"}


def sweep_depth() -> Iterator[dict]:
    for depth in (20, 56):
        yield {"model.depth": depth}


def sweep_shortcut() -> Iterator[dict]:
    for shortcut in ("none", "identity"):
        yield {"model.shortcut": shortcut}


def sweep_seed() -> Iterator[dict]:
    for seed in range(3):
        yield {"seed": seed}

"""A deeper plain network contains the shallower one's solution, and SGD does not find it.

Question: does the deep plain network lack a solution, or does SGD not find it? He et al. 2015,
section 1: a deeper model has a solution by construction, the trained shallower one and identity
layers. Here it is constructed. A plain network of 20 layers is trained for half of the run, then
grown to 56 layers by blocks that are the identity, which leaves its training error as it is, and
trained on; the other run trains 56 plain layers from the start for as long.

Result: SGD does not find it in as many steps. The network that is grown starts with the training
error of the shallow one, at most 1.5 %, gets at most 4.8 % wrong on its way, and nothing from epoch
22 of 30 on. From scratch it gets about a third of its training set wrong.

    resjax sweep --config=experiments/nested.py --workdir=runs/nested --seeds=3

It takes a minute on 2 CPU cores.

A run that has ended is continued by another, which is grown before its first step:

    resjax train --config=experiments/nested.py --config.model.depth=20 \
      --config.train.duration='15 epochs' --workdir=runs/plain-20
    resjax train --config=experiments/nested.py:runs/plain-20 --workdir=runs/plain-56

The first line of its metrics.jsonl is step 0: the training loss is 0.01186 there, as at the end of
the other, and the error 0.00 %. The learning rate begins anew, which drives the error to 45 % in
two epochs; it ends at 0.28 %, and 1.4 % on the test set where plain-20 had 4.4 %. Another minute.

In both cases the optimiser starts anew with the deep network: its moments are those of gradients
of the shallow one, the blocks that are added have none, and weights on disk hold none either.
"""

from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from resjax.sweeps.experiment import load_experiment

RECIPE = Path(__file__).with_name("degradation.py")


def get_config(arg: str = "") -> ConfigDict:
    """The recipe of degradation.py for twice as long, on a plain network of 56 layers.

    With the directory of a run of 20 layers, such as "runs/plain-20", it is that run continued.
    """
    config = load_experiment(str(RECIPE))[1]
    config.model.depth = 56
    config.model.shortcut = "none"
    config.train.duration = "30 epochs"
    config.train.grow_at = "50%"
    if arg:
        config.train.duration = "15 epochs"
        config.train.init_from = arg
        config.train.grow_from = 20
        config.train.grow_at = "0 steps"
    return config


def sweep_grown() -> Iterator[dict]:
    for depth in (0, 20):
        yield {"train.grow_from": depth}

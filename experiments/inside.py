"""Plain and residual networks seen from inside (He et al. 2015, figure 7; Veit et al. 2016).

Question: what differs inside? He et al. 2015 find that layers of residual networks respond less
than those of plain ones, and the less the deeper the network; Veit et al. 2016 that a residual
network without one of its blocks hardly errs more, where a plain one is at a loss. Networks of 20
and 56 layers are trained on digits by the recipe of degradation.py, and probed at every evaluation.

Result: a deep residual network hardly misses one of its blocks, and a plain one cannot do without
any. Without one of its blocks (the median over them) an identity network of 56 layers errs on 3.5 %
of the test images instead of 2.7, and one of 20 layers on 11.2 % instead of 2.3; plain networks of
either depth err on nearly nine images of ten. Two blocks swapped cost identity networks less still,
and plain ones as much. Layers of the plain network of 56 respond nearly twice as much as those of
the others; that deeper residual networks respond less does not show after these 337 steps. After
training, the gradient is two to nine times as large at the first block as at the last, and less so
in the plain networks, although it is thousands of times as large in the plain network of 56 layers
at initialisation.

    resjax sweep --config=experiments/inside.py --workdir=runs/inside
"""

from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from resjax.sweeps.experiment import load_experiment

RECIPE = Path(__file__).with_name("degradation.py")


def get_config() -> ConfigDict:
    """The recipe of degradation.py with probes."""
    config = load_experiment(str(RECIPE))[1]
    config.eval.every = "5 epochs"
    config.eval.probes = "gradients,responses,lesions"
    return config


def sweep_depth() -> Iterator[dict]:
    for depth in (20, 56):
        yield {"model.depth": depth}


def sweep_shortcut() -> Iterator[dict]:
    for shortcut in ("none", "identity"):
        yield {"model.shortcut": shortcut}


def sweep_seed() -> Iterator[dict]:
    for seed in range(3):
        yield {"seed": seed}

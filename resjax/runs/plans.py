"""Plans of several runs, each made once."""

import dataclasses
import functools
import json
from collections import OrderedDict

import numpy as np
from ml_collections import ConfigDict

from resjax.config import flatten
from resjax.data import sources
from resjax.runs.start import find_start
from resjax.training.plan import Plan, make_plan

MOST_PLANS, MOST_BYTES = 32, 1 << 30
"""Maximum number of plans that are kept, and the bytes of all of their images in memory.

The last one is kept, whatever it has.
"""


def kind_of(config: ConfigDict) -> str:
    """A key that is equal for runs that differ only in their seed."""
    return json.dumps(flatten(config) | {"seed": 0}, sort_keys=True)


class Plans:
    """A maker of plans; runs that differ only in their seed share all of a plan but the seed."""

    def __init__(self):
        self._made: OrderedDict[str, Plan] = OrderedDict()
        self._load = functools.lru_cache(1)(sources.load)  # most runs of a grid have the same data

    def of(self, config: ConfigDict) -> Plan:
        """The plan of a run.

        Raises:
          ConfigError: as `make_plan`.
        """
        kind = kind_of(config)
        if kind not in self._made:
            self._made[kind] = make_plan(config, self._load, find_start)
        self._made.move_to_end(kind)
        while len(self._made) > 1 and (len(self._made) > MOST_PLANS or self._bytes() > MOST_BYTES):
            self._made.popitem(last=False)
        made = self._made[kind]
        return dataclasses.replace(made, config=config, seed=np.uint32(config.seed))

    def _bytes(self) -> int:
        """Bytes of the images in memory, each source counted once."""
        kept = {id(plan.source): plan.source for plan in self._made.values()}
        return sum(source.image_bytes for source in kept.values())

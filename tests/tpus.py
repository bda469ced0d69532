"""TPUs that are not here: their compiler comes with libtpu and needs none."""

import os
from typing import Any

from jax.experimental import topologies

SETTINGS = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
"""Has libtpu ask no service of the cloud, and several processes load it at a time."""


def devices_of(topology: str) -> tuple[Any, ...]:
    """The devices of a slice, such as v5e:2x2; programs can be compiled for them, and not run."""
    os.environ |= SETTINGS
    return tuple(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)

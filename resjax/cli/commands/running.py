"""Options that commands which run networks share: hosts, and the platform."""

import argparse
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from resjax.cli.parsing import count, filled, whole
from resjax.config import flatten

if TYPE_CHECKING:
    pass

UNFINISHED = """\
A run saves its state every checkpoint.seconds. On Ctrl-C, SIGTERM, SIGHUP and
SIGUSR1 it saves and ends with exit code 75: start the same command again, and
it goes on to the same bits. A second Ctrl-C ends it at once, at its last
checkpoint.
"""


def add_platform(parser: argparse.ArgumentParser) -> None:
    """Adds the option for the platform that JAX must find."""
    parser.add_argument(
        "--platform", choices=("cpu", "gpu", "tpu"),
        help="fail if there is none (default: the best there is)",
    )  # fmt: skip


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """Adds the options by which several hosts find each other."""
    group = parser.add_argument_group(
        "several hosts",
        "Start the same command on each. Under Slurm, Open MPI and on TPU slices they\n"
        "find each other; elsewhere each is told:",
    )
    group.add_argument(
        "--coordinator", type=filled, metavar="HOST:PORT", help="address of process 0"
    )
    group.add_argument("--processes", type=whole, metavar="N", help="how many there are")
    group.add_argument("--process", type=count, metavar="I", help="which one this is, from 0")
    group.add_argument(
        "--connect-timeout", type=whole, metavar="S", default=300,
        help="seconds to wait for the others (default: 300)",
    )  # fmt: skip


def join(options: argparse.Namespace, config: ConfigDict) -> None:
    """Joins the other hosts of a run, which must have the same options and config."""
    from resjax.training import hosts

    hosts.connect(options.coordinator, options.processes, options.process, options.connect_timeout)
    hosts.require_platform(options.platform)
    own = {"coordinator", "processes", "process", "connect_timeout", "workdir", "words"}
    told = {f"--{key}": value for key, value in vars(options).items() if key not in own}
    hosts.refuse_different(flatten(config) | told)

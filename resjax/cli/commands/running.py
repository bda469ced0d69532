"""Options shared by the commands that train networks: directories, hosts and platform."""

import argparse
from pathlib import Path

from ml_collections import ConfigDict

from resjax import job
from resjax.cli.parsing import count, filled, path, path_or_address, whole
from resjax.config import ConfigError, flatten
from resjax.config.addresses import Address

UNFINISHED = """\
A run saves a checkpoint every checkpoint.seconds. On Ctrl-C, SIGTERM, SIGHUP or
SIGUSR1 it saves another one and exits with code 75. Run the same command again
to resume it; on the same devices the result is bit-identical. A second Ctrl-C
exits immediately, without saving, and the run resumes from its last checkpoint.
"""


def add_workdir(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the options for the output directory, and for the scratch directory of a bucket.

    Args:
      parser: the parser of the command.
      default: the directory if none is named.
    """
    parser.add_argument(
        "--workdir", type=path_or_address, metavar="DIR",
        help=f"directory or bucket (default: {default})",
    )  # fmt: skip
    parser.add_argument(
        "--scratch", type=path, metavar="DIR",
        help="scratch directory for buckets (default: in ~/.cache)",
    )  # fmt: skip


def directory_of(
    place: Path | Address, scratch: Path | None, writes: bool = True, hosts_joined: bool = False
) -> Path:
    """The directory to work in: `place` itself, or the scratch directory of an address.

    Args:
      place: a directory, or an address.
      scratch: directory for scratch directories; None is that in the cache.
      writes: whether the bucket is going to be written to.
      hosts_joined: whether this is one of several hosts, of which the first makes the directory.

    Raises:
      ConfigError: if the bucket cannot be used.
    """
    if isinstance(place, Path):
        if scratch:
            raise ConfigError(
                f"--scratch={scratch} has no effect, as --workdir is not in a bucket; leave it out"
            )
        return place
    from resjax.runs.scratch import workplace

    def make() -> str:
        return str(workplace(place, scratch, writes))

    if not hosts_joined:
        return Path(make())
    from resjax.training import hosts

    return Path(hosts.on_first(make))


def add_platform(parser: argparse.ArgumentParser) -> None:
    """Adds the option for the platform that JAX must find."""
    parser.add_argument(
        "--platform", choices=("cpu", "gpu", "tpu"),
        help="fail unless JAX finds it (default: best available)",
    )  # fmt: skip


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """Adds the options by which several hosts find each other."""
    group = parser.add_argument_group(
        "multiple hosts",
        "Start the same command on each host. Under Slurm, Open MPI and on TPU slices\n"
        "the hosts find each other; elsewhere these options tell them how:",
    )
    add = group.add_argument
    add("--coordinator", type=filled, metavar="HOST:PORT", help="address of process 0")
    add("--processes", type=whole, metavar="N", help="number of processes")
    add("--process", type=count, metavar="I", help="index of this process, from 0")
    add("--connect-timeout", type=whole, metavar="S", default=300,
        help="seconds to wait for other hosts (default: 300)")  # fmt: skip


def is_one_of_several(options: argparse.Namespace) -> bool:
    """Tells whether options or environment name other hosts, or JAX may find some."""
    given = (options.coordinator, options.processes, options.process)
    return given != (None, None, None) or job.may_have_hosts()


def join(options: argparse.Namespace, config: ConfigDict) -> None:
    """Joins the other hosts of a run, which must have the same options and config."""
    from resjax.training import hosts

    hosts.connect(options.coordinator, options.processes, options.process, options.connect_timeout)
    hosts.require_platform(options.platform)
    own = {"coordinator", "processes", "process", "connect_timeout", "workdir", "scratch", "words"}
    given = {f"--{key}": value for key, value in vars(options).items() if key not in own}
    hosts.refuse_different(flatten(config) | given)

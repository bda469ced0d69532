"""`resjax sweep`: a grid of runs, and its report."""

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from resjax.cli.commands import report, running
from resjax.cli.commands.command import EXPERIMENT, Command
from resjax.cli.commands.dry_run import show_grid
from resjax.cli.commands.experiment import read_experiment
from resjax.cli.parsing import filled, whole
from resjax.cli.terminal.lines import tell
from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.config.extras import require
from resjax.config.text import several
from resjax.exits import EXIT_FAILED, EXIT_UNFINISHED, EXIT_USAGE
from resjax.ops import native
from resjax.process import enable_cache
from resjax.runs import files
from resjax.runs.rundir import DONE, FAILED, run_state
from resjax.sweeps import grid

if TYPE_CHECKING:
    from resjax.runs.plans import Plans


def _arguments(parser: argparse.ArgumentParser) -> None:
    running.add_workdir(parser, "runs/EXPERIMENT")
    add = parser.add_argument_group("grid").add_argument
    add("--sweep", type=filled, metavar="AXES",
        help="axes to combine, e.g. depth,shortcut (default: all)")  # fmt: skip
    add("--seeds", type=whole, metavar="N", help="train each network with seeds 0 to N-1")
    add("--axis", action="append", default=[], type=filled, metavar="KEY=V,V",
        help="add an axis, e.g. model.depth=20,56")  # fmt: skip
    add("--only", action="append", default=[], type=filled, metavar="KEY=V,V",
        help="keep only these runs, e.g. shortcut=none")  # fmt: skip
    add("--dry-run", action="store_true", help="list the runs with their state and cost, and exit")
    add("--json", action="store_true", help="with --dry-run: print one JSON object per run")
    add("--device", type=filled, metavar="NAME", help="with --dry-run: estimate times on e.g. v4-8")
    execution = parser.add_argument_group("execution")
    add = execution.add_argument
    add("--jobs", type=whole, metavar="N",
        help="number of processes (default: by GPUs and cores)")  # fmt: skip
    add("--retry", action="store_true", help="resume runs that failed, too")
    running.add_platform(execution)
    add("--launcher", choices=("local", "ray"), default="local",
        help="train on this machine (default) or on a Ray cluster")  # fmt: skip
    add("--address", type=filled, metavar="ADDRESS",
        help="Ray cluster: auto or HOST:PORT (default: start one)")  # fmt: skip
    running.add_hosts(parser)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    _refuse_mixed_options(options)
    name, module, config, overridden = read_experiment(rest)
    place = options.workdir or Path("runs", name)
    in_this_process = (
        options.launcher == "local" and options.jobs in (None, 1) and not options.dry_run
    )
    one_of_several = in_this_process and running.is_one_of_several(options)
    joins_first = one_of_several and isinstance(place, Address)
    if joins_first:
        running.join(options, config)  # of the hosts the first looks into the bucket
    workdir = running.directory_of(place, options.scratch, not options.dry_run, joins_first)
    runs = grid.select_runs(
        module, config, workdir, axes=options.sweep, seeds=options.seeds, added=options.axis,
        only=options.only, fixed=overridden,
    )  # fmt: skip
    if options.dry_run:
        show_grid(runs, options.device, options.json)
        return 0
    native.start_building()  # while JAX is imported and the runs are looked at
    from resjax.runs.plans import Plans
    from resjax.sweeps import workers
    from resjax.sweeps.local import check
    from resjax.training import hosts

    jobs, line = options.jobs, ""
    if in_this_process and not jobs and not one_of_several:
        jobs, line = workers.jobs_on_gpus(runs, options.platform)
        in_this_process = jobs in (None, 1)
    if in_this_process:
        if not joins_first:
            running.join(options, config)
        plans = Plans()
        check(runs, plans)
        jobs = jobs or workers.jobs_for(runs, plans)
    if line:
        tell(line)
    if options.launcher == "ray":
        file = getattr(module, "__file__", None)  # a recorded config has none
        code = _work_on_ray(runs, options, Path(file) if file else None)
    elif jobs == 1:
        code = _work_here(runs, options.retry, plans)
    else:
        code = _work_in_processes(runs, workdir, options, jobs)
    # A driver of Ray leaves the devices of its machine to the runs.
    if options.launcher == "ray" or hosts.is_first():
        _tell_failures(runs, place)
        if any(run_state(directory) == DONE for directory in runs):
            report.write_and_print(place, again=False)
    return code


def _tell_failures(runs: Iterable[Path], place: Path | Address) -> None:
    """Prints how many runs have failed, where the reasons are, and the remedy, to stderr."""
    if failed := [directory.name for directory in runs if run_state(directory) == FAILED]:
        file = place / ("RUN" if failed[1:] else failed[0]) / files.ERROR
        tell(f"{several(len(failed), 'run')} failed; {file} says why; --retry tries again")


def _work_here(runs: Mapping[Path, ConfigDict], retry: bool, plans: "Plans") -> int:
    """Trains runs that passed `check` in this process and displays them; returns an exit code."""
    from resjax.cli.terminal.live import Display
    from resjax.sweeps.local import run_sweep
    from resjax.training import hosts

    enable_cache()
    with Display(runs, silent=not hosts.is_first()) as display:
        outcomes = run_sweep(runs, display, retry, plans)
    return EXIT_FAILED if any(outcome.error for outcome in outcomes) else 0


def _work_in_processes(
    runs: Mapping[Path, ConfigDict], workdir: Path, options: argparse.Namespace, jobs: int
) -> int:
    from resjax.cli.terminal.board import Board
    from resjax.cli.terminal.live import Watch
    from resjax.runs.planned import planned_work
    from resjax.runs.rundir import make_directory
    from resjax.runs.status import look
    from resjax.sweeps import workers

    environments = workers.environments(jobs, options.platform)
    logs = workdir / "workers"
    make_directory(logs)
    with Watch(Board(lambda: planned_work(runs))) as watch:
        words = [*options.words, "--jobs=1"]  # of an option that is given twice the last counts
        codes = workers.run_workers(words, environments, logs, watch.tell)
    if EXIT_UNFINISHED in codes:
        raise KeyboardInterrupt
    if EXIT_USAGE in codes:
        log = logs / f"worker{codes.index(EXIT_USAGE)}.log"
        lines = log.read_text(errors="replace").splitlines()
        raise ConfigError(lines[-1].removeprefix("resjax: "))
    states = [look(directory).state for directory in runs]
    if unfinished := [state for state in states if state not in (DONE, FAILED)]:
        tell(f"{several(len(unfinished), 'run')} not finished; see {logs}")
    return 0 if set(states) == {DONE} else EXIT_FAILED


def _refuse_mixed_options(options: argparse.Namespace) -> None:
    if options.json and not options.dry_run:
        raise ConfigError("--json is for --dry-run; add that, or use resjax status --json")
    if options.device and not options.dry_run:
        raise ConfigError(
            f"--device={options.device} is for --dry-run, which trains nothing; add that, or "
            "choose what to train on with --platform"
        )
    several_jobs = (options.jobs or 1) > 1
    if options.launcher == "ray" or several_jobs:
        who = "Ray places the runs" if options.launcher == "ray" else "--jobs are of one machine"
        for key in ("coordinator", "processes", "process"):
            if getattr(options, key) is not None:
                raise ConfigError(f"--{key} has no effect: {who}; leave it out")
    if options.launcher == "ray":
        if several_jobs:
            raise ConfigError(
                f"--jobs={options.jobs} has no effect: Ray runs as many as there is room for; "
                "leave it out, or use --launcher=local"
            )
    elif options.address is not None:
        raise ConfigError("--address names a Ray cluster; add --launcher=ray")


def _work_on_ray(
    runs: Mapping[Path, ConfigDict], options: argparse.Namespace, experiment: Path | None
) -> int:
    from resjax.cli.terminal.board import Board
    from resjax.cli.terminal.live import Watch
    from resjax.runs.planned import planned_work

    require("ray", "--launcher=ray")
    # Ray reads it when imported. By default it prints similar lines of several runs only once.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    from resjax.sweeps.ray.cluster import cluster
    from resjax.sweeps.ray.driver import run_on_cluster

    runs = {directory.absolute(): config for directory, config in runs.items()}
    with cluster(options.address), Watch(Board(lambda: planned_work(runs))) as watch:
        address = None if isinstance(options.workdir, Path) else options.workdir
        outcomes = run_on_cluster(runs, watch, options.retry, options.platform, experiment, address)
    return EXIT_FAILED if any(outcome.error for outcome in outcomes) else 0


SWEEP = Command(
    summary="train a grid of networks and write a report",
    usage="--config=FILE[:ARG] [options]",
    run=_run,
    arguments=_arguments,
    experiment=EXPERIMENT,
    overrides=True,
    notes="--sweep chooses among the axes of the file, and --axis adds another. Of several\n"
    "--only, a run must meet all. Finished runs are skipped, so a grid can be\n"
    "extended at any time.\n\n" + running.UNFINISHED,
    resumable=True,
    examples=(
        "resjax sweep --config=experiments/degradation.py --seeds=3",
        "resjax sweep --config=mine.py --sweep=depth,shortcut --dry-run",
        "resjax sweep --config=mine.py --axis optim.learning_rate=0.01,0.02 --jobs=2",
    ),
)

"""The command `resjax`: parses, calls, prints."""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from ml_collections import ConfigDict

from resjax import weights_commands
from resjax.arguments import Parser, make_parser, split, without
from resjax.config import ConfigError, flatten, run_id, validate
from resjax.cores import take_own_cores
from resjax.interruption import EXIT_INTERRUPTED, EXIT_UNFINISHED, how_to_go_on, interruptible
from resjax.overrides import override
from resjax.overrides import refuse as _refuse

EXIT_FAILED, EXIT_USAGE = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Returns 0 if all is done, 1 if a run failed, 2 for wrong input; 75 if runs are unfinished since
    the process was asked to end, and the same command goes on; 130 for Ctrl-C in other commands.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    take_own_cores(os.environ)
    interrupted = EXIT_INTERRUPTED, "\ninterrupted"
    try:
        own, experiment = split(arguments)
        options = make_parser().parse_args(own)
        options.words = arguments
        if options.command in TRAINING:
            interrupted = EXIT_UNFINISHED, how_to_go_on(arguments)
        with interruptible(*interrupted):
            return COMMANDS[options.command](options, experiment)
    except ConfigError as error:
        print(f"resjax: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        code, line = interrupted
        print(line, file=sys.stderr)
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"resjax: {place}{error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED


# ---------------------------------------------------------------------------------------- commands


def _train(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.display import print_plan
    from resjax.training import hosts
    from resjax.training.plan import prepare

    name, _, config, _ = _experiment(rest)
    _join(options, config)
    directory = options.workdir or Path("runs", name, run_id(config))
    plan = prepare(config)
    if hosts.is_first():
        print_plan(plan)
    code = _execute({directory: config}, options.retry)
    if hosts.is_first():
        print(f"run: {directory}")
    return code


def _sweep(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.sweeps import grid
    from resjax.training import hosts
    from resjax.training.rundir import DONE, run_state

    name, module, config, overridden = _experiment(rest)
    _refuse_mixed_launchers(options)
    here = options.launcher == "local" and options.jobs == 1 and not options.dry_run
    if here:
        _join(options, config)
    workdir = options.workdir or Path("runs", name)
    added = dict(grid.axis_of_option(option, config) for option in options.axis)
    known = grid.axes_of(module, config)
    axes = grid.select_axes(known, options.sweep, options.seeds, overridden, added)
    chosen = grid.keep_only(grid.expand(config, axes), options.only)
    runs = {workdir / run: config for run, config in chosen.items()}
    if options.dry_run:
        return _dry_run(runs, options.json)
    if here:
        code = _execute(runs, options.retry)
    elif options.launcher == "ray":
        code = _work_on_ray(runs, options)
    else:
        code = _work_side_by_side(runs, workdir, options)
    # A driver of Ray leaves the devices of its machine to the runs.
    if (options.launcher == "ray" or hosts.is_first()) and any(
        run_state(directory) == DONE for directory in runs
    ):
        _print_report(workdir, again=False)
    return code


def _dry_run(runs: Mapping[Path, ConfigDict], as_json: bool) -> int:
    from resjax.display import print_dry_run
    from resjax.sweeps.estimate import seconds_of, work_of
    from resjax.sweeps.status import look

    work, statuses = work_of(runs), [look(directory) for directory in runs]
    seconds = seconds_of(statuses, work)
    if as_json:
        for status in statuses:
            own = dataclasses.asdict(work[status.directory])
            fields = {"run": status.directory.name, "state": status.state, **own}
            print(json.dumps(fields | {"seconds": seconds[status.directory]}))
    else:
        print_dry_run(runs, statuses, work, seconds)
    return 0


def _work_side_by_side(
    runs: Mapping[Path, ConfigDict], workdir: Path, options: argparse.Namespace
) -> int:
    from resjax.live import Board, Watch
    from resjax.sweeps import workers
    from resjax.sweeps.status import look
    from resjax.training.rundir import DONE, make_directory

    told = workers.environments(options.jobs)
    logs = workdir / "workers"
    make_directory(logs)
    with Watch(Board({run: config.model.depth for run, config in runs.items()})) as watch:
        codes = workers.run_workers(without(options.words, "--jobs"), told, logs, watch.tell)
    if EXIT_UNFINISHED in codes:
        raise KeyboardInterrupt
    if EXIT_USAGE in codes:
        lines = (logs / f"worker{codes.index(EXIT_USAGE)}.log").read_text().splitlines()
        raise ConfigError(lines[-1].removeprefix("resjax: "))
    unended = [directory for directory in runs if look(directory).state != DONE]
    if unended:
        print(f"{len(unended)} runs are not done; see {logs}", file=sys.stderr)
    return EXIT_FAILED if unended else 0


def _refuse_mixed_launchers(options: argparse.Namespace) -> None:
    if options.launcher == "ray":
        for key in ("coordinator", "processes", "process"):
            if getattr(options, key) is not None:
                raise ConfigError(f"--{key} has no effect, Ray places the runs; leave it out")
        if options.jobs > 1:
            raise ConfigError(
                f"--jobs={options.jobs} has no effect, Ray runs as many as there is room for; "
                "leave it out, or use --launcher=local"
            )
    elif options.address is not None:
        raise ConfigError("--address is that of a Ray cluster; add --launcher=ray")


def _work_on_ray(runs: Mapping[Path, ConfigDict], options: argparse.Namespace) -> int:
    from resjax.live import Board, Watch

    try:
        from resjax.sweeps.ray import cluster, run_sweep
    except ModuleNotFoundError:
        raise ConfigError("no Ray is installed; pip install 'resjax[ray]'") from None

    runs = {directory.absolute(): config for directory, config in runs.items()}
    board = Board({run: config.model.depth for run, config in runs.items()})
    with cluster(options.address), Watch(board) as watch:
        outcomes = run_sweep(runs, watch, options.retry, options.platform)
    return EXIT_FAILED if any(outcome.error for outcome in outcomes) else 0


def _status(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.live import Board, Watch
    from resjax.sweeps.ledger import read_ledger, total
    from resjax.sweeps.status import ENDED, look_in

    _refuse(rest)
    statuses = look_in(options.dir)
    if options.json:
        for status in statuses:
            ledger = read_ledger(status.directory)
            cost = {"cost": ledger and dataclasses.asdict(ledger)}
            print(json.dumps(dataclasses.asdict(status) | cost, default=str))
        return 0
    board = Board(dict.fromkeys((status.directory for status in statuses), 1.0))
    if not options.watch:
        from resjax.display import print_statuses

        cost = total(read_ledger(status.directory) for status in statuses)
        print_statuses(statuses, board.line(statuses), cost)
        return 0
    with Watch(board, to_stdout=True) as watch:
        while any(status.state not in ENDED for status in board.look()):
            watch.tell()
            time.sleep(1.0)
    return 0


def _report(options: argparse.Namespace, rest: list[str]) -> int:
    _refuse(rest)
    _print_report(options.dir, again=True)
    if options.open:
        import webbrowser

        webbrowser.open((options.dir / "report" / "index.html").resolve().as_uri())
    return 0


def _doctor(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.display import print_findings, print_removed
    from resjax.sweeps.doctor import DAMAGED, examine_all, repair

    _refuse(rest)
    findings = examine_all(options.dir)
    if options.repair:
        removed = [path for finding in findings for path in repair(finding)]
        print_removed(removed)
        findings = examine_all(options.dir)
    if options.json:
        for finding in findings:
            print(json.dumps(dataclasses.asdict(finding), default=str))
    else:
        print_findings(findings)
    bad = any(finding.state == DAMAGED or finding.damaged for finding in findings)
    return EXIT_FAILED if bad else 0


def _probe(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.display import print_probed
    from resjax.probes.record import probe_run
    from resjax.probes.table import chosen
    from resjax.report.probes import write_probed
    from resjax.training.compilation import enable_cache
    from resjax.training.events import TensorBoard

    _refuse(rest)
    names = chosen(options.probe or "", "probe")
    enable_cache()
    probed = probe_run(options.dir, names, options.checkpoint, options.examples, options.data)
    directory = options.out or options.dir / "probes" / str(probed.step)
    figures = write_probed(probed, directory)
    board = TensorBoard(directory)
    board.add_figures(probed.step, (path for path in figures if path.suffix == ".png"))
    board.close()
    print_probed(probed, directory)
    return 0


def _describe(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.models.build import build_model, preset
    from resjax.models.summary import describe
    from resjax.training.plan import prepare
    from resjax.training.rundir import make_directory

    if (options.name is None) == (not rest):
        raise ConfigError("describe takes a name such as resnet50, or --config=FILE, and not both")
    if options.name:
        name = options.name
        config, image_shape, classes = preset(name)
    else:
        name, _, config, _ = _experiment(rest)
        plan = prepare(config)
        image_shape, classes = plan.image_shape, len(plan.source.class_names)
    title = name
    for key in ("shortcut", "order", "stride_in"):
        if (value := getattr(options, key)) is not None:
            config.model[key] = value
            title += f", {key}={value}"
    if options.size is not None:
        image_shape = (options.size, options.size, image_shape[-1])
    validate(config)
    if options.diagram:
        make_directory(options.diagram.parent)
    model = build_model(config, options.classes or classes)
    try:
        description = describe(model, image_shape)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    memory = None
    if options.memory:
        from resjax.training.benchmark import training_memory

        memory = {
            what: training_memory(config, model.classes, image_shape, options.memory, remat)
            for what, remat in (("kept", False), ("computed_again", True))
        }
    if options.json:
        fields = dataclasses.asdict(description) | ({"training_memory": memory} if memory else {})
        print(json.dumps({"name": name, **fields}, indent=2))
    else:
        from resjax.display import print_description, print_memory

        print_description(title, description)
        if memory:
            print_memory(options.memory, memory)
    if options.diagram:
        from resjax.report.diagram import draw_to

        for path in draw_to(options.diagram, model, image_shape, title):
            print(f"diagram: {path}", file=sys.stderr)
    return 0


def _prepare(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.data.prepare import prepare

    _refuse(rest)
    found = prepare(options.name, options.data_dir, options.manual_dir)
    splits = ", ".join(f"{name} {examples}" for name, examples in found.examples.items())
    print(f"{found.done}: {found.directory} ({splits})")
    return 0


def _bench(options: argparse.Namespace, rest: list[str]) -> int:
    import jax

    from resjax.display import Measurements
    from resjax.training import hosts
    from resjax.training.benchmark import measure_training
    from resjax.training.plan import prepare

    _, _, config, _ = _experiment(rest)
    hosts.require_platform(options.platform)
    configs = []
    for depth in options.depths or [config.model.depth]:
        configs.append(config.copy_and_resolve_references())
        configs[-1].model.depth = depth
        prepare(configs[-1])
    # What another process compiled must not be found.
    jax.config.update("jax_enable_compilation_cache", False)
    with Measurements(as_json=options.json) as table:
        for config in configs:
            trace = options.trace and options.trace / f"depth-{config.model.depth}"
            table.add(measure_training(config, options.seconds, trace, table.tell))
    return 0


COMMANDS = {
    "train": _train,
    "sweep": _sweep,
    "status": _status,
    "report": _report,
    "doctor": _doctor,
    "probe": _probe,
    "describe": _describe,
    "prepare": _prepare,
    "bench": _bench,
    **weights_commands.COMMANDS,
}

TRAINING = {"train", "sweep"}
"""Commands that go on where they were, if they are started again."""


def _join(options: argparse.Namespace, config: ConfigDict) -> None:
    """Joins the other hosts of a run, which must have been told the same."""
    from resjax.training import hosts

    hosts.connect(options.coordinator, options.processes, options.process, options.connect_timeout)
    hosts.require_platform(options.platform)
    own = {"coordinator", "processes", "process", "connect_timeout", "workdir", "words"}
    told = {f"--{key}": value for key, value in vars(options).items() if key not in own}
    hosts.refuse_different(flatten(config) | told)


def _execute(runs: Mapping[Path, ConfigDict], retry: bool) -> int:
    from resjax.live import Display
    from resjax.sweeps.local import check, run_sweep
    from resjax.training import hosts
    from resjax.training.compilation import enable_cache

    check(runs)
    enable_cache()
    with Display(runs, silent=not hosts.is_first()) as display:
        outcomes = run_sweep(runs, display, retry)
    return EXIT_FAILED if any(outcome.error for outcome in outcomes) else 0


def _print_report(workdir: Path, again: bool) -> None:
    from resjax.display import print_report
    from resjax.report.report import write_report
    from resjax.training.claims import Claimed, claimed

    if not workdir.is_dir():
        raise ConfigError(f"no directory {workdir}; start with resjax sweep")
    try:
        with claimed(workdir):
            report = write_report(workdir, again)
    except Claimed:
        print(f"another process writes {workdir / 'report'}", file=sys.stderr)
    else:
        print_report(report)


# ----------------------------------------------------------------------------------- configuration


def _experiment(words: list[str]) -> tuple[str, ModuleType, ConfigDict, list[str]]:
    """What `--config=FILE[:ARG]` and the overrides `--config.KEY=VALUE` say.

    Returns the name of the experiment, its module, its config and the overridden keys.
    """
    from resjax.sweeps.grid import load_experiment

    parser = Parser(prog="resjax", allow_abbrev=False, add_help=False)
    parser.add_argument("--config", action="append", default=[])
    options, overrides = parser.parse_known_args(words)
    if len(options.config) != 1:
        given = f"{len(options.config)} experiments" if options.config else "no experiment"
        raise ConfigError(f"{given} given; use one --config=experiments/degradation.py")
    module, config = load_experiment(options.config[0])
    overridden = override(config, overrides)
    validate(config)
    return Path(options.config[0].partition(":")[0]).stem, module, config, overridden


def command() -> NoReturn:
    """The console script: `main`, then the end of the process.

    After an interruption, or while it waits for other hosts, it ends without Python's own cleaning
    up, which would take the devices from computations that are still under way.
    """
    from resjax.training import hosts

    code = main()
    if code in (EXIT_INTERRUPTED, EXIT_UNFINISHED) or hosts.joining():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    command()

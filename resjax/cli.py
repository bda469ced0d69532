"""The command `resjax`: parses, calls, prints."""

import argparse
import dataclasses
import json
import os
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

import resjax
from resjax.config import ConfigError, flatten, nearest, run_id, validate
from resjax.interruption import EXIT_INTERRUPTED, how_to_go_on, interruptible

EXIT_FAILED, EXIT_USAGE = 1, 2

CONFIG_HELP = """\
the experiment:
  --config=FILE[:ARG]   Python file with get_config(ARG)
  --config.KEY=VALUE    override a key of its config (resjax/config.py has all)
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns 0 if done, 1 if a run failed, 2 for wrong input, 130 for Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        own, experiment = _split(arguments)
        options = _parser().parse_args(own)
        with interruptible(arguments):
            return options.run(options, experiment)
    except ConfigError as error:
        print(f"resjax: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(how_to_go_on(arguments), file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        print(f"resjax: {error}", file=sys.stderr)
        return EXIT_FAILED


class _Parser(argparse.ArgumentParser):
    """Tells wrong arguments like every other wrong input."""

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError(f"{message}; see {self.prog} --help")


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments of the command, and those that say the experiment, each in their order.

    argparse cannot do this: it takes an unknown option for a positional argument if there is a
    space in it, and durations have one.
    """
    own, experiment, words = [], [], iter(arguments)
    for word in words:
        if not re.match(r"--(no)?config\b", word):
            own.append(word)
            continue
        experiment.append(word)
        if "=" not in word and not word.startswith("--no"):
            experiment += [value] if (value := next(words, None)) is not None else []
    return own, experiment


def _path(text: str) -> Path:
    """A file or directory from the command line."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; is a variable not set?")
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is no POSIX directory; mount the bucket and name its path"
        )
    return Path(text)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _depths(text: str) -> list[int]:
    return [_whole(word) for word in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="resjax",
        description="A laboratory for residual learning: "
        "what does the shortcut do as networks get deep?",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"resjax {resjax.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run, summary: str, example: str, **kwargs) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            epilog=f"{kwargs.get('epilog', '')}\nexample:\n  {example}",
        )
        command.set_defaults(run=run)
        return command

    train = add(
        "train",
        _train,
        "train one network and evaluate it",
        "resjax train --config=experiments/degradation.py --config.model.depth=32",
        epilog=CONFIG_HELP,
    )
    train.add_argument(
        "--workdir", type=_path, metavar="DIR",
        help="directory of this run (default: runs/EXPERIMENT/RUN)",
    )  # fmt: skip

    sweep = add(
        "sweep",
        _sweep,
        "train every network of a grid that is not trained yet, and report",
        "resjax sweep --config=experiments/degradation.py --sweep=depth,shortcut --seeds=3",
        epilog=CONFIG_HELP,
    )
    sweep.add_argument(
        "--workdir", type=_path, metavar="DIR",
        help="directory of the sweep, with a directory for each run (default: runs/EXPERIMENT)",
    )  # fmt: skip
    sweep.add_argument(
        "--sweep", metavar="AXES",
        help="axes of the experiment to multiply, such as depth,shortcut (default: all it has)",
    )  # fmt: skip
    sweep.add_argument("--seeds", type=int, metavar="N", help="run every net with seeds 0 to N-1")

    report = add(
        "report",
        _report,
        "write and print the table, figure and page of a sweep",
        "resjax report runs/degradation",
    )
    report.add_argument("dir", type=_path, metavar="DIR", help="directory of the sweep")
    describe = add(
        "describe",
        _describe,
        "count the layers, parameters and multiply-adds of a network, and draw it",
        "resjax describe resnet50 --shortcut=identity --diagram=resnet50.svg",
        epilog=f"names:\n{_names()}\n\n{CONFIG_HELP}",
    )
    describe.add_argument("name", nargs="?", metavar="NAME", help="a network such as resnet50")
    describe.add_argument("--shortcut", metavar="KIND", help="model.shortcut instead of its own")
    describe.add_argument("--order", metavar="ORDER", help="model.order instead of its own")
    describe.add_argument("--stride-in", choices=("3x3", "1x1"), help="stride of a bottleneck")
    describe.add_argument("--classes", type=_whole, metavar="N", help="outputs instead of its own")
    describe.add_argument("--size", type=_whole, metavar="PIXELS", help="side of the images")
    describe.add_argument(
        "--memory", type=_whole, metavar="BATCH",
        help="compile a training step for BATCH images and tell the memory that it needs",
    )  # fmt: skip
    describe.add_argument("--json", action="store_true", help="print one JSON object")
    describe.add_argument(
        "--diagram", type=_path, metavar="FILE", help="draw the network to FILE.svg, .png and .pdf"
    )
    bench = add(
        "bench",
        _bench,
        "measure how fast a network compiles and trains",
        "resjax bench --config=experiments/speed.py:cifar-resnet20 --depths=20,56,110,1202",
        epilog=CONFIG_HELP,
    )
    bench.add_argument("--depths", type=_depths, metavar="N,...", help="one after the other")
    bench.add_argument(
        "--seconds", type=float, default=5.0, metavar="S", help="to measure each for (default: 5)"
    )
    bench.add_argument(
        "--trace", type=_path, metavar="DIR", help="write a profile for Perfetto or TensorBoard"
    )
    bench.add_argument("--json", action="store_true", help="print one JSON object a line")
    return parser


def _names() -> str:
    from resjax.models.networks import KNOWN_NAMES

    names = ", ".join(KNOWN_NAMES)
    return textwrap.indent(textwrap.fill(names, 76, break_on_hyphens=False), "  ")


# ---------------------------------------------------------------------------------------- commands


def _train(options: argparse.Namespace, rest: list[str]) -> int:
    name, _, config, _ = _experiment(rest)
    directory = options.workdir or Path("runs", name, run_id(config))
    code = _execute({directory: config})
    print(f"run: {directory}")
    return code


def _sweep(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.sweeps import grid
    from resjax.training.rundir import DONE, run_state

    name, module, config, overridden = _experiment(rest)
    workdir = options.workdir or Path("runs", name)
    axes = grid.select_axes(grid.axes_of(module), options.sweep, options.seeds, overridden)
    runs = {workdir / run: config for run, config in grid.expand(config, axes).items()}
    code = _execute(runs)
    if any(run_state(directory) == DONE for directory in runs):
        _print_report(workdir)
    return code


def _report(options: argparse.Namespace, rest: list[str]) -> int:
    _refuse(rest)
    _print_report(options.dir)
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
        source = prepare(config).source
        image_shape, classes = source.train.images.shape[1:], len(source.class_names)
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


def _bench(options: argparse.Namespace, rest: list[str]) -> int:
    import jax

    from resjax.display import Measurements
    from resjax.training.benchmark import measure_training
    from resjax.training.plan import prepare

    _, _, config, _ = _experiment(rest)
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


def _execute(runs: Mapping[Path, ConfigDict]) -> int:
    from resjax.display import Display
    from resjax.sweeps.local import check, run_sweep
    from resjax.training.compilation import enable_cache

    check(runs)
    enable_cache()
    with Display(runs) as display:
        outcomes = run_sweep(runs, display)
    return EXIT_FAILED if any(outcome.error for outcome in outcomes) else 0


def _print_report(workdir: Path) -> None:
    from resjax.display import print_report
    from resjax.report.page import write_report

    print_report(write_report(workdir))


# ----------------------------------------------------------------------------------- configuration


def _experiment(words: list[str]) -> tuple[str, ModuleType, ConfigDict, list[str]]:
    """What `--config=FILE[:ARG]` and the overrides `--config.KEY=VALUE` say.

    Returns the name of the experiment, its module, its config and the overridden keys.
    """
    from resjax.sweeps.grid import load_experiment

    parser = _Parser(prog="resjax", allow_abbrev=False, add_help=False)
    parser.add_argument("--config", action="append", default=[])
    options, overrides = parser.parse_known_args(words)
    if len(options.config) != 1:
        given = f"{len(options.config)} experiments" if options.config else "no experiment"
        raise ConfigError(f"{given} given; use one --config=experiments/degradation.py")
    module, config = load_experiment(options.config[0])
    known, overridden = flatten(config), []
    for word in overrides:
        if match := re.match(r"--(?:no)?config\.?([^=]*)", word):
            if match[1] not in known:
                raise ConfigError(
                    f"unknown config key {match[1]!r}; {nearest(match[1], list(known))}"
                )
            overridden.append(match[1])
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["", *overrides])
    try:
        _refuse(values(["resjax", *overrides])[1:])
    except ConfigError:
        raise
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        kinds = ", ".join(f"{key} is {type(known[key]).__name__}" for key in overridden)
        raise ConfigError(f"{' '.join(str(error).split())} ({kinds})") from None
    validate(config)
    return Path(options.config[0].partition(":")[0]).stem, module, config, overridden


def _refuse(words: list[str]) -> None:
    if words:
        raise ConfigError(f"unknown argument {words[0]!r}; see resjax --help")


def command() -> NoReturn:
    """The console script: `main`, then the end of the process.

    After an interruption it ends without Python's own cleaning up, which would take the devices
    from computations that are still under way.
    """
    code = main()
    if code == EXIT_INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    command()

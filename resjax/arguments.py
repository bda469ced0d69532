"""What the command `resjax` can be told, and its help."""

import argparse
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import resjax
from resjax.config import ConfigError

CONFIG_HELP = """\
the experiment:
  --config=FILE[:ARG]   Python file with get_config(ARG)
  --config.KEY=VALUE    override a key of its config (resjax/config.py has all)
"""

UNFINISHED_HELP = """\
A run saves its state every checkpoint.seconds. On SIGTERM and Ctrl-C it saves and leaves with exit
code 75: start the same command again, and it goes on to the same bits.
"""

PREPARE_HELP = """\
TFDS writes the set as ArrayRecord files, which needs TensorFlow: pip install 'resjax[prepare]'.
Training reads it without. A set that is not whole, after an interruption, is never read.
TFRecord files of a set that is there already are converted, without a download.

without a network, the archive that TFDS would download is put into the directory --manual-dir:
  cifar10       cifar-10-binary.tar.gz
  cifar100      cifar-100-binary.tar.gz
  imagenet2012  ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, which it never downloads
Their names are these, and they must be those that TFDS knows, to the checksum or size.
"""


WEIGHTS_HELP = """\
files: .safetensors, or .pth, which is read without running code (pip install 'resjax[torch]').
JSON files beside one, as transformers and timm write them, say its classes and how images are
prepared; otherwise this is assumed as usual, and changed with --config.data.KEY=VALUE:
  --config.data.resize=232 --config.data.interpolation=bicubic --config.data.standardise=half
"""


class Parser(argparse.ArgumentParser):
    """Tells wrong arguments like every other wrong input."""

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError(f"{message}; see {self.prog} --help")


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
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


def without(arguments: list[str], option: str) -> list[str]:
    """The arguments less an option and its value."""
    left, words = [], iter(arguments)
    for word in words:
        if word == option:
            next(words, None)
        elif not word.startswith(f"{option}="):
            left.append(word)
    return left


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


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


def _depths(text: str) -> list[int]:
    return [_whole(word) for word in text.split(",")]


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; which one is in `options.command`."""
    parser = Parser(
        prog="resjax",
        description="A laboratory for residual learning: "
        "what does the shortcut do as networks get deep?",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"resjax {resjax.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, example: str, epilog: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            epilog=f"{epilog}\nexample:\n  {example}",
        )

    train = add(
        "train",
        "train one network and evaluate it",
        "resjax train --config=experiments/degradation.py --config.model.depth=32",
        epilog=f"{CONFIG_HELP}\n{UNFINISHED_HELP}",
    )
    train.add_argument(
        "--workdir", type=_path, metavar="DIR",
        help="directory of this run (default: runs/EXPERIMENT/RUN)",
    )  # fmt: skip

    sweep = add(
        "sweep",
        "train every network of a grid that is not trained yet, and report",
        "resjax sweep --config=experiments/degradation.py --sweep=depth,shortcut --seeds=3",
        epilog=f"{CONFIG_HELP}\n{UNFINISHED_HELP}",
    )
    sweep.add_argument(
        "--workdir", type=_path, metavar="DIR",
        help="directory of the sweep, with a directory for each run (default: runs/EXPERIMENT)",
    )  # fmt: skip
    sweep.add_argument(
        "--sweep", metavar="AXES",
        help="axes to multiply, such as depth,shortcut (default: all); a+b advance together",
    )  # fmt: skip
    sweep.add_argument("--seeds", type=int, metavar="N", help="run every net with seeds 0 to N-1")
    sweep.add_argument(
        "--axis", action="append", default=[], metavar="KEY=V,V",
        help="another axis, named after its key, such as model.depth=20,56; several multiply",
    )  # fmt: skip
    sweep.add_argument(
        "--only", action="append", default=[], metavar="KEY=V,V",
        help="leave out all other runs of the grid, such as shortcut=none,identity",
    )  # fmt: skip
    sweep.add_argument(
        "--dry-run", action="store_true",
        help="list the runs, their state, size and cost, and train none",
    )  # fmt: skip
    sweep.add_argument(
        "--json", action="store_true", help="with --dry-run: a line of JSON for each run"
    )
    sweep.add_argument(
        "--jobs", type=_whole, default=1, metavar="N",
        help="processes that share the runs, one for each GPU or part of the cores (default: 1)",
    )  # fmt: skip
    sweep.add_argument(
        "--launcher", choices=("local", "ray"), default="local",
        help="what starts the runs: this process, or Ray (default: local)",
    )  # fmt: skip
    sweep.add_argument(
        "--address", metavar="ADDRESS",
        help="with --launcher=ray: auto, or HOST:PORT of a cluster (default: Ray on this machine)",
    )  # fmt: skip
    for command in (train, sweep):
        command.add_argument(
            "--retry", action="store_true", help="go on with runs that failed, too"
        )
        _add_hosts(command)

    status = add(
        "status",
        "tell how far the runs of a sweep are, from any machine that sees its directory",
        "resjax status runs/degradation --watch",
    )
    status.add_argument("dir", type=_path, metavar="DIR", help="directory of a sweep or a run")
    status.add_argument("--watch", action="store_true", help="follow them until all have ended")
    status.add_argument("--json", action="store_true", help="a line of JSON for each run")

    report = add(
        "report",
        "write and print the tables, figures and page of a sweep",
        "resjax report runs/degradation",
    )
    report.add_argument("dir", type=_path, metavar="DIR", help="directory of the sweep")
    report.add_argument("--open", action="store_true", help="open the page in a browser")
    doctor = add(
        "doctor",
        "verify what the runs in a directory have on disk, and say what to do about each",
        "resjax doctor runs/degradation",
        epilog="exit code 1 if a file is not what was written",
    )
    doctor.add_argument("dir", type=_path, metavar="DIR", help="directory of a sweep or a run")
    doctor.add_argument(
        "--repair", action="store_true",
        help="remove what is partial: what a process left that ended while it wrote",
    )  # fmt: skip
    doctor.add_argument("--json", action="store_true", help="a line of JSON for each run")
    probe = add(
        "probe",
        "look inside the network of a run: arrays by block, and figures",
        "resjax probe runs/degradation/none-56-seed0-1cd5ab2a --probe=gradients,responses",
        epilog=_probes(),
    )
    probe.add_argument("dir", type=_path, metavar="RUN", help="directory of the run")
    probe.add_argument("--probe", metavar="NAME,...", help="which (default: all)")
    probe.add_argument(
        "--checkpoint", type=_count, metavar="STEP",
        help="of this step; 0 is the network before training (default: the newest)",
    )  # fmt: skip
    probe.add_argument(
        "--examples", type=_whole, metavar="N",
        help="first images of a split to compute them on (default: eval.probe_examples)",
    )  # fmt: skip
    probe.add_argument(
        "--data", metavar="NAME", help="data.name to probe imported weights on, as folder:PATH"
    )
    probe.add_argument(
        "--out", type=_path, metavar="DIR", help="for the files (default: RUN/probes/STEP)"
    )
    describe = add(
        "describe",
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
    prepare = add(
        "prepare",
        "download a set of images once, for training to read",
        "resjax prepare cifar10 --manual-dir=$HOME/Downloads",
        epilog=PREPARE_HELP,
    )
    prepare.add_argument("name", metavar="NAME", help="NAME, NAME/CONFIG or NAME/CONFIG:VERSION")
    prepare.add_argument(
        "--data-dir", type=_path, metavar="DIR",
        help="where sets are kept (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)",
    )  # fmt: skip
    prepare.add_argument(
        "--manual-dir", type=_path, metavar="DIR", help="archives to take instead of downloads"
    )
    _add_weights(add)
    bench = add(
        "bench",
        "measure how fast a network compiles and trains",
        "resjax bench --config=experiments/speed.py:cifar-resnet20 --depths=20,56,110,1202",
        epilog=CONFIG_HELP,
    )
    _add_platform(bench)
    bench.add_argument("--depths", type=_depths, metavar="N,...", help="one after the other")
    bench.add_argument(
        "--seconds", type=float, default=5.0, metavar="S", help="to measure each for (default: 5)"
    )
    bench.add_argument(
        "--trace", type=_path, metavar="DIR", help="write a profile for Perfetto or TensorBoard"
    )
    bench.add_argument("--json", action="store_true", help="print one JSON object a line")
    return parser


def _add_weights(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that read weights."""
    source = {"type": _path, "metavar": "DIR|FILE"}
    come = add(
        "import",
        "make a run of a file of weights of torchvision, timm, transformers or akamaster",
        "resjax import resnet50.safetensors --out=runs/resnet50",
        epilog=WEIGHTS_HELP,
    )
    come.add_argument("file", type=_path, metavar="FILE", help="a .safetensors or .pth file")
    come.add_argument(
        "--out", type=_path, required=True, metavar="DIR", help="directory of the run"
    )
    come.add_argument(
        "--class-names", type=_path, metavar="FILE", help="names of the classes, one a line"
    )
    go = add(
        "export",
        "write the weights of a run for another framework, or as a compiled function",
        "resjax export runs/resnet50 --out=resnet50.stablehlo --fold",
    )
    go.add_argument("source", help="a run, or a file of weights", **source)
    go.add_argument(
        "--out", type=_path, required=True, metavar="FILE",
        help="a .safetensors file, or a .stablehlo one, a function of batches of any size",
    )  # fmt: skip
    go.add_argument(
        "--names", metavar="NAMES",
        help="of the tensors: torchvision, timm, timm-v2, timm-v2d, transformers or akamaster",
    )  # fmt: skip
    go.add_argument(
        "--fold", action="store_true", help="put normalisations into the layers before them"
    )
    evaluate = add(
        "evaluate",
        "tell the errors, loss and calibration of a network, and its errors by class",
        "resjax evaluate resnet50.safetensors --data=folder:photos --split=train",
        epilog=WEIGHTS_HELP,
    )
    evaluate.add_argument("source", help="a run, or a file of weights", **source)
    evaluate.add_argument(
        "--data", metavar="NAME", help="data.name to evaluate on (default: the run's)"
    )
    evaluate.add_argument(
        "--split", metavar="SLICE", help="such as test or train[:1000] (default: data.test)"
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    predict = add(
        "predict",
        "tell what a network takes images for",
        "resjax predict runs/resnet50 cat.jpg dog.jpg",
        epilog=WEIGHTS_HELP,
    )
    predict.add_argument("source", help="a run, or a file of weights", **source)
    predict.add_argument("images", type=_path, nargs="+", metavar="IMAGE", help="JPEG or PNG files")
    predict.add_argument(
        "--top", type=_whole, default=5, metavar="N", help="classes to tell (default: 5)"
    )
    predict.add_argument("--json", action="store_true", help="print one JSON object a line")


def _add_platform(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--platform", choices=("cpu", "gpu", "tpu"),
        help="end if JAX does not see such a device (default: the best that it sees)",
    )  # fmt: skip


def _add_hosts(command: argparse.ArgumentParser) -> None:
    _add_platform(command)
    group = command.add_argument_group(
        "several hosts",
        "Start the same command on each. Under Slurm, Open MPI and on TPU slices they find each "
        "other; elsewhere each is told:",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    group.add_argument("--processes", type=_whole, metavar="N", help="how many there are")
    group.add_argument("--process", type=_count, metavar="I", help="which one this is, from 0")
    group.add_argument(
        "--connect-timeout", type=_whole, metavar="S", default=300,
        help="seconds to wait for the others (default: 300)",
    )  # fmt: skip


def _probes() -> str:
    from resjax.probes.table import PROBES

    return "probes:\n" + "".join(
        f"  {name:15}{(probe.measure.__doc__ or '').partition(chr(10))[0].rstrip('.')}\n"
        for name, probe in PROBES.items()
    )


def _names() -> str:
    from resjax.models.networks import KNOWN_NAMES

    names = ", ".join(KNOWN_NAMES)
    return textwrap.indent(textwrap.fill(names, 76, break_on_hyphens=False), "  ")

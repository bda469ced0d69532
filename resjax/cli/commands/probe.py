"""`resjax probe`: an analysis of the network of a run, block by block."""

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from resjax.cli.commands.command import DEFINITIONS, Command
from resjax.cli.commands.experiment import definitions
from resjax.cli.parsing import WIDTH, count, filled, path, path_or_address, whole
from resjax.cli.terminal.lines import say, tell
from resjax.cli.terminal.tables import print_table, text_table
from resjax.runs.rundir import refuse_no_run

if TYPE_CHECKING:
    from resjax.runs.probing import Probed


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", type=path_or_address, metavar="RUN",
        help="directory of a run, or gs://, s3://, az://")  # fmt: skip
    add("--probe", type=filled, metavar="NAME,...", help="probes to compute (default: all)")
    add("--checkpoint", type=count, metavar="STEP",
        help="step of the checkpoint; 0: untrained (default: last)")  # fmt: skip
    add("--examples", type=whole, metavar="N",
        help="number of images (default: eval.probe_examples)")  # fmt: skip
    add("--data", type=filled, metavar="NAME", help="data set on which to probe imported weights")
    add("--out", type=path, metavar="DIR", help="output directory (default: RUN/probes/STEP)")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    if isinstance(options.dir, Path):
        refuse_no_run(options.dir)
    from resjax.buckets.places import reading
    from resjax.probes.table import chosen
    from resjax.process import enable_cache
    from resjax.report.probes import write_probed
    from resjax.runs import checkpoint
    from resjax.runs.events import TensorBoard
    from resjax.runs.files import PROBED
    from resjax.runs.probing import probe_run

    enable_cache()
    files = checkpoint.choose_files(options.checkpoint)
    with definitions(rest), reading(options.dir, files) as place:
        names = chosen(options.probe or "", "probe")
        run = place.directory
        probed = probe_run(
            run, names, options.checkpoint, options.examples, options.data,
            lambda name: tell(f"probe {name}"),
        )  # fmt: skip
        directory = options.out or run / PROBED / str(probed.step)
        figures = write_probed(probed, directory)
        board = TensorBoard(directory)
        board.add_figures(probed.step, (path for path in figures if path.suffix == ".png"))
        board.close()
        if not options.out:
            place.upload(f"{PROBED}/{probed.step}")
        _print(probed, names, place.named(str(directory)))
    return 0


def _print(probed: "Probed", names: list[str], directory: str) -> None:
    """Prints every array at the first, middle and last block, and the directory, to stdout.

    What is not by block is said in a line, and so is what there is none of among the `names` that
    were asked for.
    """
    from resjax.probes.table import PROBES
    from resjax.report.inside import HEADER, network_of, rows_by_block
    from resjax.report.probes import surface_in_words

    table = text_table(("probe", *HEADER[1:]), words=("probe", "array"), gap=2)
    several, network = False, network_of(probed)
    for probe in probed.found:
        for row in rows_by_block(network, probe):
            table.add_row(probe, *row)
            several = several or any(" " in values for values in row[1:])
    say(
        f"{probed.run} at step {probed.step}: {sum(probed.stages)} blocks, by the first "
        f"{probed.examples} examples",
    )
    if table.row_count:
        print_table(table)
    if several:
        say("several numbers in a cell are those of the layers of the block, in order")
    for probe in probed.found:
        if not PROBES[probe].by_block:
            say(f"{probe}: {surface_in_words(probed, probe)}")
    for name in names:
        if name not in probed.found:
            say(f"{name}: the network has none")
    say(f"arrays and figures: {directory}")


def _probes() -> str:
    from resjax.probes.table import PROBES

    return "probes:\n" + "".join(
        textwrap.fill(
            (probe.measure.__doc__ or "").partition("\n")[0].rstrip("."), WIDTH,
            initial_indent=f"  {name:15}", subsequent_indent=" " * 17,
        ) + "\n"
        for name, probe in PROBES.items()
    )  # fmt: skip


PROBE = Command(
    summary="analyse a trained network block by block",
    usage="RUN [options]",
    run=_run,
    arguments=_arguments,
    experiment=DEFINITIONS,
    notes=_probes,
    examples=(
        "resjax probe runs/degradation/none-56-seed0-cf966269",
        "resjax probe runs/mine/half-20-seed0-219173b3 --config=mine.py --probe=paths",
    ),
)

"""The command `resjax`: parses its arguments, runs it, and turns errors into exit codes."""

import io
import os
import sys
import warnings
from typing import Any, NoReturn

from resjax.cli.arguments import parse, split
from resjax.cli.commands import COMMANDS
from resjax.cli.terminal.closed import outliving
from resjax.cli.terminal.lines import complain, shortened
from resjax.cli.terminal.waits import shown_waits
from resjax.config import ConfigError, Notice
from resjax.exits import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNFINISHED, EXIT_USAGE
from resjax.interruption import how_to_go_on, interruptible
from resjax.process import set_up
from resjax.sweeps.experiment import fault


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; prints the user's errors in one line.

    Returns:
      An exit code of `resjax.exits`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    set_up()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # names may have letters that it cannot encode
    interrupted = EXIT_INTERRUPTED, "\ninterrupted"
    try:
        own, experiment = split(arguments)
        options = parse(own, experiment)
        options.words = arguments
        command = COMMANDS[options.command]
        if command.resumable:
            interrupted = EXIT_UNFINISHED, how_to_go_on(arguments)
            sys.stdout = outliving(sys.stdout)  # what they are for is in files
        with interruptible(*interrupted), shown_waits():
            return command.run(options, experiment)
    except ConfigError as error:
        complain(error)
        return EXIT_USAGE
    except KeyboardInterrupt:
        code, line = interrupted
        print(line, file=sys.stderr)
        return code
    except BrokenPipeError:  # its reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        complain(f"{place}{error.strerror or error}")
        return EXIT_FAILED
    except (Exception, GeneratorExit, SystemExit) as error:
        if (reason := _not_ours(error)) is None:
            raise
        complain(reason)
        return EXIT_USAGE


def _not_ours(error: BaseException) -> object:
    """The line for an error in an experiment, or of JAX without a device; None for other errors."""
    if reason := fault(error):
        return reason
    if "jax" in sys.modules and isinstance(error, AssertionError | RuntimeError):
        from resjax.training.hosts import no_device

        return no_device()
    return None


def command() -> NoReturn:
    """Runs `main` as the console script, and exits with its exit code.

    After an interruption, or while it waits for other hosts, the process ends without Python's own
    cleaning up, which would take the devices from computations that are still under way.
    """
    if "_ARGCOMPLETE" in os.environ:
        from resjax.cli.completion import complete

        complete()
    warnings.formatwarning = _warning_line
    warnings.simplefilter("default", Notice)  # PYTHONWARNINGS may hide it, or make an error of it
    sys.unraisablehook = _print_uncaught
    os.environ["MPLBACKEND"] = "Agg"  # a notebook hands on its own, which may not be there
    sys.stderr = outliving(sys.stderr)
    if sys.stdout is not None:  # or it was closed, and nothing is printed
        if sys.stdout.isatty():  # other output is what most commands are for, as of `| head`
            sys.stdout = outliving(sys.stdout)
        sys.stdout.reconfigure(line_buffering=True)  # a log is followed while the command works
    code = main()
    hosts = sys.modules.get("resjax.training.hosts")  # with JAX, which not every command needs
    if code in (EXIT_INTERRUPTED, EXIT_UNFINISHED) or (hosts and hosts.joining()):
        for stream in filter(None, (sys.stdout, sys.stderr)):  # or they were closed
            stream.flush()
        os._exit(code)
    sys.exit(code)


def _print_uncaught(unraisable: Any) -> None:
    """Prints exceptions that cannot be caught, except repetitions of a failed checkpoint's.

    Every array that cannot be written raises one, and after the first nobody waits for the others.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    """The line for a warning, without its location in the code, which only developers need."""
    return f"warning: {shortened(' '.join(str(message).split()))}\n"

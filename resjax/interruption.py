"""What happens on Ctrl-C: the process ends at once and says how to go on."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_INTERRUPTED = 130

SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def interruptible(arguments: list[str]) -> Iterator[None]:
    """Leaves on Ctrl-C, at once, with a line that says how to go on.

    Python handles a signal between two of its own instructions, so not while a network compiles. A
    thread that is woken by the signal itself ends the process if the main one is not done within a
    second.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    done = threading.Event()
    receive, send = os.pipe()
    os.set_blocking(send, False)
    before = signal.set_wakeup_fd(send, warn_on_full_buffer=False)

    def watch() -> None:
        while (number := os.read(receive, 1)) and number[0] != signal.SIGINT:
            pass
        if number and not done.wait(timeout=1.0):
            sys.stderr.write(SHOW_CURSOR if sys.stderr.isatty() else "")
            sys.stderr.write(how_to_go_on(arguments) + "\n")
            sys.stderr.flush()
            os._exit(EXIT_INTERRUPTED)
        os.close(receive)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        os.close(send)


def how_to_go_on(arguments: list[str]) -> str:
    """The last line of an interrupted command, with the command that goes on with it."""
    command = shlex.join(["resjax", *arguments])
    return f"\ninterrupted; finished runs are kept, go on with: {command}"

"""Display of what the process waits for: a spinner in a terminal, occasional lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from resjax import waits
from resjax.cli.terminal.lines import plain_console, say
from resjax.config.text import clock, printable
from resjax.interruption import cleared_at_the_end

SECONDS_UNTIL_SHOWN = 1.0
"""Duration in seconds from which a wait is shown."""

SECONDS_BETWEEN_LINES = 15.0
"""Seconds between two lines about waits where the output is not a terminal."""

SECONDS_BETWEEN_LOOKS = 0.25

FRAMES = 8
"""Frames of a spinner per second."""


class Shows(Protocol):
    """A part of the program that prints for a person and knows the time until all is done."""

    console: Console

    def say(self, line: str) -> None: ...

    def left(self) -> str: ...


_shows: list[Shows] = []
"""The parts of the program that are printing, the innermost last."""


class WaitLine:
    """A line with a spinner that says what is being waited for; empty if nothing is."""

    def __init__(self) -> None:
        self.spinner = Spinner("dots")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if line := current_line():
            self.spinner.update(text=Text(line))
            yield self.spinner


def current_line() -> str:
    """Describes the current wait, such as "plain-8: compiling train steps, 2 s of 15 s".

    It is the wait that holds up all others, after the name of the first. Empty if nobody waits, or
    not for long.
    """
    now, current = time.monotonic(), waits.current()
    if not current or now - current[0].since < SECONDS_UNTIL_SHOWN:
        return ""
    names = dict.fromkeys((current[0].what, current[-1].what))
    own, in_all = clock(now - current[-1].since), clock(now - current[0].since)
    return f"{printable(': '.join(names))}, {own}" + (f" of {in_all}" if own != in_all else "")


class Patience:
    """Shows what the process waits for while a command runs, from its own thread.

    It leaves a terminal to whatever draws there by itself, such as a board of runs.
    """

    def __init__(self) -> None:
        self.console = plain_console(stderr=True)
        self.spinner: Live | None = None
        self.drawing = threading.Lock()
        self.told = time.monotonic()

    def look(self) -> None:
        """Draws or clears the spinner, or prints a line if one is due."""
        line, shows = current_line(), _shows[-1] if _shows else None
        if not line:
            self.told = self.told if waits.current() else time.monotonic()
            self.clear()
        elif self.console.is_terminal:
            self._draw()
        elif time.monotonic() - self.told >= SECONDS_BETWEEN_LINES:
            self.told = time.monotonic()
            if shows:
                shows.say(line + shows.left())
            else:
                say(line, console=self.console)

    def _draw(self) -> None:
        with self.drawing:
            if not self.spinner and not _shows:
                self.spinner = Live(
                    WaitLine(), console=self.console, refresh_per_second=FRAMES, transient=True,
                    redirect_stdout=False,  # which may be a file
                )  # fmt: skip
                self.spinner.start(refresh=True)

    def clear(self) -> None:
        """Removes the spinner from the terminal."""
        with self.drawing:
            if self.spinner:
                self.spinner.stop()
            self.spinner = None


_patience: list[Patience] = []
"""The object that shows waits at present, if there is one."""


@contextmanager
def shown_waits() -> Iterator[None]:
    """Shows what the process waits for inside the block, once a wait has lasted a second."""
    if sys.stderr is None:  # it was closed
        yield
        return
    patience, ended = Patience(), threading.Event()

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            patience.look()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    _patience.append(patience)
    waits.when_over.append(patience.clear)  # before anything else is printed
    try:
        with cleared_at_the_end(patience.clear):
            yield
    finally:
        waits.when_over.remove(patience.clear)
        _patience.remove(patience)
        ended.set()
        watching.join()
        patience.clear()


@contextmanager
def shown_by(shows: Shows) -> Iterator[None]:
    """Makes a part of the program show the waits inside the block."""
    _shows.append(shows)
    for patience in _patience:
        patience.clear()
    try:
        yield
    finally:
        _shows.remove(shows)

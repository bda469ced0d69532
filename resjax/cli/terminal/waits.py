"""Display of what the process waits for: a spinner in a terminal, occasional lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from resjax import waits
from resjax.cli.terminal.lines import plain_console, say
from resjax.config.text import clock, printable
from resjax.interruption import cleared_at_the_end

if TYPE_CHECKING:
    from resjax.cli.terminal.live import Screen

SECONDS_UNTIL_SHOWN = 1.0
"""Duration in seconds from which a wait is shown."""

SECONDS_BETWEEN_LINES = 15.0
"""Seconds between two lines about waits where the output is not a terminal."""

SECONDS_BETWEEN_LOOKS = 0.25

FRAMES = 8
"""Frames of a spinner per second."""


_screens: "list[Screen]" = []
"""The screens in use, the innermost last."""


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


class WaitDisplay:
    """A spinner, or lines, about what the process waits for, drawn from a thread of its own.

    A terminal in which a screen draws is left to that.
    """

    def __init__(self) -> None:
        self.console = plain_console(stderr=True)
        self.spinner: Live | None = None
        self.drawing = threading.Lock()
        self.last_shown = time.monotonic()

    def look(self) -> None:
        """Draws or clears the spinner, or prints a line if one is due."""
        line, screen = current_line(), _screens[-1] if _screens else None
        if not line:
            self.last_shown = self.last_shown if waits.current() else time.monotonic()
            self.clear()
        elif self.console.is_terminal:
            self._draw()
        elif time.monotonic() - self.last_shown >= SECONDS_BETWEEN_LINES:
            self.last_shown = time.monotonic()
            if screen:
                screen.say(line + screen.left())
            else:
                say(line, console=self.console)

    def _draw(self) -> None:
        with self.drawing:
            if not self.spinner and not _screens:
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


_displays: list[WaitDisplay] = []
"""The display of waits in use, if there is one."""


@contextmanager
def shown_waits() -> Iterator[None]:
    """Shows what the process waits for inside the block, once a wait has lasted a second."""
    if sys.stderr is None:  # it was closed
        yield
        return
    display, ended = WaitDisplay(), threading.Event()

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            display.look()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    _displays.append(display)
    waits.when_over.append(display.clear)  # before anything else is printed
    try:
        with cleared_at_the_end(display.clear):
            yield
    finally:
        waits.when_over.remove(display.clear)
        _displays.remove(display)
        ended.set()
        watching.join()
        display.clear()


@contextmanager
def shown_on(screen: "Screen") -> Iterator[None]:
    """Leaves it to a screen to show the waits inside the block."""
    _screens.append(screen)
    for display in _displays:
        display.clear()
    try:
        yield
    finally:
        _screens.remove(screen)

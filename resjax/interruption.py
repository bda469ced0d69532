"""Requests to end a process: from a person, a closing terminal, or a scheduler.

A run saves its state and leaves; anything else ends at once. Both say how to go on.
"""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from resjax.config.text import printable

INSISTENT = (signal.SIGINT, signal.SIGTERM)
"""Signals that end a process at once when they come a second time."""

SIGNALS = (*INSISTENT, signal.SIGHUP, signal.SIGUSR1)
"""Signals that ask a process to end: SIGHUP when a terminal closes, SIGUSR1 by Slurm's --signal.

These two may come more than once, or ahead of the others, with time to save until the process is
killed.
"""

SENT_TO_ALL = {*SIGNALS} - {signal.SIGTERM}
"""Signals that terminals send to all of their processes, and schedulers to all of a step."""

SECONDS_TO_LEAVE = 5.0
"""Maximum seconds for a run that has saved its state to end the workers that read its data."""

SECONDS_TO_CLEAR = 1.0
"""Maximum seconds to clear the live display of a terminal, before the last line is printed."""

SHOW_CURSOR = "\x1b[?25h"


class Interrupted(KeyboardInterrupt):
    """A run stopped because a signal asked it to; it resumes when started again."""


class Request:
    """A request to end this process; calling it tells whether it has come.

    Python handles a signal between two of its own instructions, so not while a network compiles.
    Then a thread, which the signal itself wakes, ends the process: at once, or after the `rescue`
    of a run.

    Attributes:
      signal: number of the first signal that came, or None.
      rescue: function that saves what would be lost; None if nothing would.
      uncut: lock that a run holds while its state cannot be saved, or is being saved.
      leaving: whether the run has noticed, saved its state and is about to end.
      patience: seconds until a thread steps in for the main one, if that does not notice since it
        is inside a compilation or an evaluation.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.rescue: Callable[[], None] | None = None
        self.uncut = threading.Lock()
        self.leaving = False
        self.patience = 1.0

    def __call__(self) -> bool:
        return self.signal is not None

    @property
    def name(self) -> str:
        """The name of the signal; for that of another host, which is unknown, "another host"."""
        return signal.Signals(self.signal).name if self() else "another host"


_requests: list[Request] = []
"""The requests of the contexts that this process is in, the innermost last."""


_drawn: list[Callable[[], None]] = []
"""Functions that clear the live displays of a terminal."""


@contextmanager
def cleared_at_the_end(clear: Callable[[], None]) -> Iterator[None]:
    """Calls `clear` before the last line, if the process is ended inside the block."""
    _drawn.append(clear)
    try:
        yield
    finally:
        _drawn.remove(clear)


_finishing: list[Callable[[], None]] = []
"""Functions that finish what goes on beside a run, such as an upload of its files."""


@contextmanager
def finished_first(finish: Callable[[], None]) -> Iterator[None]:
    """Calls `finish`, after the rescue, if the process is asked to end inside the block.

    That is on another thread than the main one, which may be leaving the block meanwhile.
    """
    _finishing.append(finish)
    try:
        yield
    finally:
        _finishing.remove(finish)


def tell_at_the_end(line: str) -> None:
    """Prints a line of a process that is about to end."""
    if sys.stderr is not None:  # or it was closed
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _heeded() -> list[signal.Signals]:
    """The signals that this process obeys; under nohup, not those of a closing terminal."""
    ignored = {n for n in SIGNALS if signal.getsignal(n) is signal.SIG_IGN} - {*INSISTENT}
    return [number for number in SIGNALS if number not in ignored]


@contextmanager
def interruptible(code: int, last_words: str) -> Iterator[None]:
    """Ends the process with a code and a line if it is asked to end anywhere in the block.

    A signal raises KeyboardInterrupt where no run has `deferred` it. A second one of `INSISTENT`
    ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    request, done = Request(), threading.Event()
    receive, send = os.pipe()
    os.set_blocking(send, False)
    before = signal.set_wakeup_fd(send, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, _raise) for number in _heeded()}

    def end(line: str) -> None:
        for clear in _drawn:
            clearing = threading.Thread(target=clear, daemon=True)
            clearing.start()
            clearing.join(SECONDS_TO_CLEAR)
        tell_at_the_end((SHOW_CURSOR if sys.stderr and sys.stderr.isatty() else "") + line)
        os._exit(code)

    def step_in() -> None:
        if done.wait(request.patience):
            return
        with request.uncut:
            try:
                if request.rescue and not request.leaving:
                    request.rescue()
                for finish in list(_finishing):
                    finish()
            except Exception as error:
                tell_at_the_end(f"\nthe last steps are not saved: {error}")
            finally:
                if not (request.leaving and done.wait(SECONDS_TO_LEAVE)):
                    end(last_words)

    def watch() -> None:
        came: list[int] = []
        while number := os.read(receive, 1):
            if number[0] not in handlers:
                continue
            came.append(number[0])
            if sum(each in INSISTENT for each in came) > 1:
                end("\nstopped at once; the last checkpoint is kept")
            if len(came) == 1:
                request.signal = number[0]
                threading.Thread(target=step_in, daemon=True).start()
        os.close(receive)

    threading.Thread(target=watch, daemon=True).start()
    _requests.append(request)
    try:
        yield
    finally:
        done.set()
        _requests.remove(request)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(send)


@contextmanager
def deferred() -> Iterator[Request]:
    """Records signals, without obeying them, in the request that it yields for the caller.

    Where no `interruptible` watches over the process, as in a notebook, nothing else is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Request()
        return
    request = _requests[-1] if _requests else Request()

    def note(number: int, _: object) -> None:
        request.signal = request.signal or number

    handlers = {number: signal.signal(number, note) for number in _heeded()}
    try:
        yield request
    finally:
        fresh = Request()
        request.rescue, request.patience = fresh.rescue, fresh.patience
        for number, handler in handlers.items():
            signal.signal(number, handler)


def leave_to_parent() -> None:
    """Makes a worker process ignore `SENT_TO_ALL`; its parent ends it."""
    for number in SENT_TO_ALL:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Blocks `SENT_TO_ALL` from the start in processes started inside the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SENT_TO_ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _raise(number: int, _: object) -> None:
    raise KeyboardInterrupt


def how_to_go_on(arguments: list[str]) -> str:
    """The last line of an interrupted command, with the command that resumes it."""
    command = printable(shlex.join(["resjax", *arguments]))
    return f"\ninterrupted; progress is saved; resume with: {command}"

"""Memory shared by worker processes and the process that reads their chunks of batches."""

import contextlib
import math
import os
import time
import weakref
from multiprocessing import shared_memory

import numpy as np

from resjax.config.text import space

MOST_CHUNKS = 10**15
"""More chunks than any run reads."""


class Ring:
    """Memory shared with workers: chunks `[slots, *shape]` uint8, used in turn.

    New memory for every chunk of a batch can cost a sixth of the time that it takes to fill it. A
    chunk takes the slot of the chunk with a number smaller by `slots`, once that is copied. If
    `slots` is a multiple of the workers, one worker makes both, and none ever waits for another.
    """

    FREE = -1

    def __init__(self, slots: int, shape: tuple[int, ...]):
        size = slots * (8 + math.prod(shape))
        self._memory = shared_memory.SharedMemory(create=True, size=size)
        self._attach(slots, shape)
        self.free()
        self._end = weakref.finalize(self, _unlink, self._memory)

    def _attach(self, slots: int, shape: tuple[int, ...]) -> None:
        self._numbers = np.ndarray(slots, np.int64, self._memory.buf)
        self._chunks = np.ndarray((slots, *shape), np.uint8, self._memory.buf, 8 * slots)

    def __getstate__(self) -> tuple[str, tuple[int, ...]]:
        return self._memory.name, self._chunks.shape

    def __setstate__(self, state: tuple[str, tuple[int, ...]]) -> None:
        self._memory = shared_memory.SharedMemory(state[0])
        self._attach(state[1][0], state[1][1:])

    def begin(self, number: int) -> np.ndarray:
        """The memory for a worker to write a numbered chunk to, once its slot is free."""
        slot = number % len(self._numbers)
        while self._numbers[slot] != self.FREE:
            time.sleep(0.001)  # rare: there are slots for all chunks that Grain holds
        self._numbers[slot] = number
        return self._chunks[slot]

    def copy(self, number: int, out: np.ndarray) -> None:
        """Copies a chunk, or as many of its rows as `out` has, and frees its slot."""
        slot = number % len(self._numbers)
        out[:] = self._chunks[slot, : len(out)]
        self._numbers[slot] = self.FREE

    def free(self) -> None:
        """Frees all slots, so that no worker waits any longer."""
        self._numbers[:] = self.FREE

    def close(self) -> None:
        """Releases the memory."""
        self._numbers = self._chunks = None
        self._end()


def _unlink(memory: shared_memory.SharedMemory) -> None:
    memory.unlink()
    with contextlib.suppress(BufferError):  # at exit, arrays may still be there
        memory.close()


def chunks_that_fit(shape: tuple[int, ...], least: int) -> int:
    """Number of chunks that fit into the memory shared with workers; containers have little.

    Raises:
      ValueError: if fewer than `least` fit.
    """
    if not os.path.isdir(SHARED_MEMORY):
        return MOST_CHUNKS
    disk, size = os.statvfs(SHARED_MEMORY), 8 + math.prod(shape)
    room = disk.f_bavail * disk.f_frsize // size
    if room < least:
        raise ValueError(
            f"workers need {space(least * size)} in {SHARED_MEMORY}, which has "
            f"{space(room * size)}; use fewer or start the container with a larger --shm-size"
        )
    return room


SHARED_MEMORY = "/dev/shm"

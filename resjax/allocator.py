"""Memory of the C library that programs on the CPU use again, instead of giving it back."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
"""Numbers of the settings in glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Has glibc keep what is freed; elsewhere it does nothing.

    XLA takes the memory of a program anew in every call, some hundred megabytes for a training
    step. By default glibc fetches that much from Linux and returns it, and each page is cleared and
    mapped when it is touched: a fifth of a step of ResNet-20. It must be called before JAX starts
    its threads, which otherwise have pools of memory of their own.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 2**28)

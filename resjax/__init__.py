"""resjax: a laboratory for deep residual learning in JAX."""

from resjax.allocator import keep_freed_memory
from resjax.simulated import start_enough_threads

__version__ = "0.1.0"

keep_freed_memory()
start_enough_threads()

"""resjax: a laboratory for deep residual learning in JAX."""

__version__ = "0.1.0"

"""Operations that XLA runs slowly on a CPU, or compiles slowly."""

"""Operations that XLA leaves slow, or slow to compile."""

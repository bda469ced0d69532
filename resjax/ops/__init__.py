"""Operations that XLA leaves slow."""

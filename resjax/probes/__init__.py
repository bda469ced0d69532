"""Probes of residual learning from inside: arrays by block, for any network and batch."""

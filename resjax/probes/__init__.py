"""What residual learning looks like from inside: arrays by block, of any network and batch."""

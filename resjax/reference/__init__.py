"""What the papers report."""

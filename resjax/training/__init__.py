"""Training of a network: from a config to its weights and its results."""

"""Probes: measurements inside a network, with a row for every block."""

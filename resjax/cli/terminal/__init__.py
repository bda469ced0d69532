"""Output of the commands for a person at a terminal."""

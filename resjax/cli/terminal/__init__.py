"""What the commands print for a person at a terminal."""

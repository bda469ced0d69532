"""What a person is shown in a terminal."""

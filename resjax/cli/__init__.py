"""The command line: `resjax COMMAND`."""

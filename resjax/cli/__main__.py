"""The command as `python -m resjax.cli`."""

from resjax.cli.main import command

command()

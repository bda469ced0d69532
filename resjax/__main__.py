"""The command as `python -m resjax`."""

from resjax.cli.main import command

command()

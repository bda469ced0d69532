"""`resjax completion`: a script for a shell to complete commands, options, files and keys."""

import argparse

from resjax.cli.commands.command import Command

NOTES = """\
bash: add to ~/.bashrc
  eval "$(resjax completion bash)"
zsh: add to ~/.zshrc, after compinit
  eval "$(resjax completion zsh)"
fish: run once
  resjax completion fish > ~/.config/fish/completions/resjax.fish
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="shell that runs the script")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from argcomplete import shellcode

    print(shellcode(["resjax"], shell=options.shell))
    return 0


COMPLETION = Command(
    summary="print a completion script for bash, zsh or fish",
    usage="bash|zsh|fish",
    run=_run,
    arguments=_arguments,
    notes=NOTES,
    examples=("resjax completion bash",),
)

"""The exit codes of the command `resjax`."""

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

EXIT_UNFINISHED = 75
"""Exit code of a command that was interrupted and goes on if started again (EX_TEMPFAIL)."""

EXIT_INTERRUPTED = 130

MEANINGS = {
    EXIT_DONE: "all is done",
    EXIT_FAILED: "something failed",
    EXIT_USAGE: "refused: an option, the config or a file is wrong",
    EXIT_UNFINISHED: "train, sweep: interrupted; the same command goes on",
    EXIT_INTERRUPTED: "any other command: interrupted",
}

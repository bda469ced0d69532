"""The exit codes of the command `resjax`."""

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

EXIT_UNFINISHED = 75
"""Exit code of an interrupted command that resumes when run again (EX_TEMPFAIL)."""

EXIT_INTERRUPTED = 130

MEANINGS = {
    EXIT_DONE: "success",
    EXIT_FAILED: "failure: a run failed, or a file is damaged",
    EXIT_USAGE: "invalid input: an option, the config or a file is wrong",
    EXIT_UNFINISHED: "train, sweep: interrupted; run the same command again to resume",
    EXIT_INTERRUPTED: "other commands: interrupted",
}

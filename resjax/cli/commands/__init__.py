"""The commands of `resjax`, in the order of its help. Each is one file here and one line below."""

from resjax.cli.commands import (
    bench,
    completion,
    describe,
    doctor,
    init,
    keys,
    prepare,
    probe,
    report,
    status,
    sweep,
    train,
    weights,
)
from resjax.cli.commands.command import Command

GROUPS: dict[str, dict[str, Command]] = {
    "train": {
        "train": train.TRAIN,
        "sweep": sweep.SWEEP,
    },
    "inspect": {
        "status": status.STATUS,
        "report": report.REPORT,
        "probe": probe.PROBE,
        "describe": describe.DESCRIBE,
        "doctor": doctor.DOCTOR,
        "bench": bench.BENCH,
    },
    "use weights": {
        "import": weights.IMPORT,
        "export": weights.EXPORT,
        "evaluate": weights.EVALUATE,
        "predict": weights.PREDICT,
    },
    "data": {
        "prepare": prepare.PREPARE,
    },
    "setup": {
        "init": init.INIT,
        "keys": keys.KEYS_COMMAND,
        "completion": completion.COMPLETION,
    },
}

COMMANDS: dict[str, Command] = {
    name: command for group in GROUPS.values() for name, command in group.items()
}

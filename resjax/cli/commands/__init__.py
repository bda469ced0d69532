"""The commands of `resjax`, in the order of its help. Each is one file here and one line below."""

from resjax.cli.commands import (
    bench,
    completion,
    describe,
    doctor,
    init,
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
    "train networks": {
        "train": train.TRAIN,
        "sweep": sweep.SWEEP,
    },
    "look at them": {
        "status": status.STATUS,
        "report": report.REPORT,
        "probe": probe.PROBE,
        "describe": describe.DESCRIBE,
        "doctor": doctor.DOCTOR,
    },
    "move weights": {
        "import": weights.IMPORT,
        "export": weights.EXPORT,
        "evaluate": weights.EVALUATE,
        "predict": weights.PREDICT,
    },
    "get data": {
        "prepare": prepare.PREPARE,
    },
    "tools": {
        "init": init.INIT,
        "bench": bench.BENCH,
        "completion": completion.COMPLETION,
    },
}

COMMANDS: dict[str, Command] = {
    name: command for group in GROUPS.values() for name, command in group.items()
}

"""Names of the files and directories of a run.

CONFIG is written first and makes a directory that of a run; RESULT is written last and atomically,
so that it exists only if the run is done. Every JSON object has a digest of the rest of it, so that
a damaged one is never taken for whole. Names with a dot in front are of this machine alone, and are
not uploaded.
"""

CONFIG = "config.json"
"""Every key of the config, written first."""

MANIFEST = "manifest.json"
"""A description of what ran: versions, device, git state, sizes, data fingerprint, seconds."""

METRICS = "metrics.jsonl"
"""Measures of the run, a line per evaluation, without a clock."""

TIMING = "timing.jsonl"
"""Events of the run, with the seconds until then; see `resjax.runs.ledger`."""

CHECKPOINTS = "checkpoints"
"""Directory of the checkpoints, each in one named by its step; see `resjax.runs.checkpoint`."""

STATE = "state"
"""Directory in that of a checkpoint: the training state, by Orbax."""

FACTS = "checkpoint.json"
"""File of a checkpoint that is written last: the rest of what a run needs to resume."""

ALL_FACTS = f"{CHECKPOINTS}/*/{FACTS}"
"""Pattern of the names of the files that mark the checkpoints of a run as complete."""

PROBES = "probes.jsonl"
"""Arrays by block, a line per evaluation, if `eval.probes` names any."""

PROBED = "probes"
"""Directory of what `resjax probe` found in checkpoints, with figures, each named by its step."""

LEFT_OUT = "left_out.json"
"""Images that could not be read, as {split: {image: complaint}}, if there are any."""

EVENTS = "events.out.tfevents"
"""Beginning of the names of TensorBoard's files, which hold the numbers of METRICS."""

WEIGHTS = "weights.safetensors"
"""The network of the last evaluation; see `resjax.runs.weights`."""

ORIGIN = "imported.json"
"""The origin of the weights, if no run of resjax trained them."""

PROGRESS = "progress.json"
"""A report of how far the run is, every few seconds until it is done."""

CLAIM = "claim.json"
"""A claim of the process that works on the run; see `resjax.runs.claims`."""

ERROR = "error.txt"
"""The reason why the run stopped, with any traceback, if it failed."""

RESULT = "result.json"
"""The result, written last, with the digest of METRICS."""

BUCKET = ".bucket.json"
"""{"address"} of a directory that is uploaded, whether it is of a run or of a sweep."""

LANDED = ".landed.json"
"""{"token"} of the claim under which this machine was the last to work on the run."""

UPLOADING = ".uploading"
"""Directory of links to the files of a checkpoint that is being uploaded."""

LEFT_BY_RUNS = (CONFIG, MANIFEST, METRICS, TIMING, RESULT, CHECKPOINTS)
"""Names that only a run gives, and only after its config."""

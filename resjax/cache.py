"""Where a user's cache is, and what CPU the code in it was compiled for."""

import hashlib
import os
import platform
import re
from pathlib import Path

CPU_DESCRIPTION = Path("/proc/cpuinfo")

_DECIDES_CODE = re.compile(
    r"^(?:vendor_id|cpu family|model|model name|flags|features|isa|uarch|cpu"
    r"|CPU (?:implementer|architecture|variant|part))\s*:.*$",
    re.MULTILINE | re.IGNORECASE,
)


def cache_directory() -> Path:
    """`resjax/` under XDG_CACHE_HOME, by default ~/.cache; that of the root if no home is known.

    The latter is a user whom a container does not know, and who may not write there either.
    """
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("/")
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "resjax"


def cpu_kind() -> str:
    """A name such as `x86_64-9a3f6b21` that machines share if their CPUs run the same code.

    It has a hash of the models and features that Linux reports, or of the machine's name where
    nothing is reported; then no two machines share code.
    """
    try:
        reported = CPU_DESCRIPTION.read_text(encoding="utf-8", errors="replace")
    except OSError:
        reported = ""
    kinds = sorted(set(_DECIDES_CODE.findall(reported))) or [platform.node()]
    digest = hashlib.sha256("\n".join(kinds).encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}"

"""Names of data sets of TFDS, and the directories in which they are prepared."""

import difflib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.config.paths import place

_NAME = re.compile(r"(?:tfds:)?([a-zA-Z]\w*)(?:/(\w[\w.-]*))?(?::(\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


class Name(NamedTuple):
    """The name of a set: NAME or NAME/CONFIG, either with :VERSION.

    An empty config is the set's own one, an empty version the newest.
    """

    name: str
    config: str = ""
    version: str = ""

    def __str__(self) -> str:
        config, version = self.config and f"/{self.config}", self.version and f":{self.version}"
        return f"{self.name}{config}{version}"


def parse_name(text: str) -> Name:
    """Parses a name, such as `cifar10`, `tfds:cifar10` or `tfds:cifar10_1/v4:1.1.0`.

    Raises:
      ConfigError: if it is not the name of a set.
    """
    match = _NAME.fullmatch(text)
    if not match:
        raise ConfigError(
            f"{text!r} is not a set of TFDS; write NAME, NAME/CONFIG or NAME/CONFIG:VERSION, "
            "such as cifar10_1/v4:1.1.0"
        )
    return Name(*(group or "" for group in match.groups()))


def default_data_dir(parse: Callable[[str, str], Path | Address] = place) -> Path | Address:
    """The directory or address of all sets of TFDS: $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Args:
      parse: `local` if it must be a directory of this machine.

    Raises:
      ConfigError: if that is neither.
    """
    return parse(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets", "TFDS_DATA_DIR=")


def find(wanted: Name, data_dir: Path) -> Path | None:
    """The directory of a set, in its newest version unless one is named; None if there is none.

    Raises:
      ConfigError: if none of its several configs is the default, and none is named.
    """
    root = data_dir / wanted.name
    root /= wanted.config or ("" if _versions(root) else _own_config(root))
    versions = [wanted.version] if wanted.version else _versions(root)
    return root / versions[-1] if versions and (root / versions[-1]).is_dir() else None


def _versions(root: Path) -> list[str]:
    """The versions in a directory, sorted. TFDS gives other names to incomplete ones."""
    found = [path.name for path in _directories(root) if _VERSION.fullmatch(path.name)]
    return sorted(found, key=lambda version: tuple(map(int, version.split("."))))


def _own_config(root: Path) -> str:
    """The default config of a set: the one recorded by TFDS, or the only one."""
    configs = [path.name for path in _directories(root) if _versions(path)]
    note = root / ".config" / "metadata.json"
    own = json.loads(note.read_text()).get("default_config_name") if note.exists() else None
    if own in configs or not configs:
        return own or ""
    if len(configs) > 1:
        raise ConfigError(f"{root.name} has several configs; name one: {', '.join(configs)}")
    return configs[0]


def _directories(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def prepare_command(wanted: Name, data_dir: Path | Address) -> str:
    """The command that prepares a set; for a bucket, its output is to be copied there."""
    if isinstance(data_dir, Address):
        return f"resjax prepare {wanted} --data-dir=DIR, and copy DIR/{wanted.name} to {data_dir}"
    return f"resjax prepare {wanted} --data-dir={data_dir}"


def missing(wanted: Name, data_dir: Path | Address) -> str:
    """The error message for a set that is not prepared."""
    import tensorflow_datasets as tfds

    there = [path.name for path in _directories(data_dir)] if isinstance(data_dir, Path) else []
    known = tfds.list_builders(with_community_datasets=False) + there
    if wanted.name not in known:
        return unknown(wanted, known)
    message = f"{wanted} is not in {data_dir}; run: {prepare_command(wanted, data_dir)}"
    if wanted.name in ("cifar10", "cifar100"):
        message += "; or read the files of its authors by data.name=cifar:PATH"
    return message


def unknown(wanted: Name, known: Sequence[str]) -> str:
    """The error message for an unknown set, with the nearest of hundreds of known ones."""
    close = difflib.get_close_matches(wanted.name, known, n=3)
    remedy = f"nearest: {', '.join(close)}" if close else "try cifar10 or imagenet2012"
    return f"TFDS has no set {wanted.name!r}; {remedy}"

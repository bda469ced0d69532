"""Objects of a bucket as it lists them, and the versions of their content."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Version:
    """Version of an object's content: on Google its generation, elsewhere its ETag."""

    e_tag: str | None
    generation: str | None = None

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> "Version":
        """Reads the version from the metadata that `obstore` returns."""
        return cls(meta["e_tag"], meta["version"])

    def condition(self) -> dict[str, str]:
        """The version in the form that `obstore` takes for a conditional write."""
        both = {"e_tag": self.e_tag, "version": self.generation}
        return {key: value for key, value in both.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Listed:
    """An object in a listing.

    Attributes:
      name: name below the address of the store.
      size: number of bytes.
      e_tag: identifies the content; two listings that have the same have the same content.
      modified: when it was written, in seconds since 1970, by the clock of the bucket.
    """

    name: str
    size: int
    e_tag: str | None
    modified: float

    @classmethod
    def of(cls, meta: Mapping[str, Any], above: int) -> "Listed":
        """Reads an object from the metadata of `obstore`, without the first letters of its name."""
        modified = meta["last_modified"].timestamp()
        return cls(meta["path"][above:], meta["size"], meta["e_tag"], modified)

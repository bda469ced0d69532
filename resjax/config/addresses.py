"""Addresses of directories in buckets: `gs://BUCKET/PATH`, `s3://...`, `az://...`."""

import dataclasses
import re
from urllib.parse import quote

from resjax.config import ConfigError

KINDS = {"gs": "Google Cloud Storage", "s3": "Amazon S3", "az": "Azure Blob Storage"}
"""Kinds of buckets, by the word before :// in an address."""

OTHER_WORDS = {"gcs": "gs", "s3a": "s3", "s3n": "s3", "azure": "az", "abfs": "az", "abfss": "az"}
"""Words that other programs use for the same kinds, for the remedy in an error."""

MOST_BYTES = 1024
"""Maximum length of an object's name in bytes on Azure, Google and S3 alike."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


@dataclasses.dataclass(frozen=True, order=True)
class Address:
    """A directory in a bucket: the prefix of the names of its objects.

    >>> address = Address.of("gs://lab/runs/deep/")
    >>> str(address), str(address / "plain"), str(address.parent), address.name
    ('gs://lab/runs/deep', 'gs://lab/runs/deep/plain', 'gs://lab/runs', 'deep')

    Attributes:
      kind: one of `KINDS`.
      bucket: name of the bucket; on Azure that of the container.
      path: names with slashes between them; empty for the whole bucket.
    """

    kind: str
    bucket: str
    path: str = ""

    @classmethod
    def of(cls, text: str, said_by: str = "") -> "Address":
        """Parses an address; `said_by` comes before it in error messages, such as "data.dir=".

        Raises:
          ConfigError: for another kind of address, or a name that no bucket or object has.
        """
        refuse_web(text, said_by)
        kind, _, rest = text.partition("://")
        bucket, _, path = rest.partition("/")
        if kind not in KINDS:
            instead = f"{OTHER_WORDS[kind]}://{rest}" if kind in OTHER_WORDS else "a directory"
            raise ConfigError(
                f"{said_by}{text} is an address of another kind than "
                f"{', '.join(f'{word}://' for word in KINDS)} and file://; use {instead}"
            )
        if not _BUCKET.fullmatch(bucket):
            raise ConfigError(
                f"{said_by}{text} names the bucket {bucket!r}, and such a name has 3 or more "
                f"lower-case letters, digits, dots, hyphens; write {kind}://BUCKET/PATH"
            )
        names = path.rstrip("/").split("/")
        if path.rstrip("/") and any(name in ("", ".", "..") for name in names):
            raise ConfigError(
                f"{said_by}{text} has an empty name, or . or .., in its path; leave it out"
            )
        if any(ord(letter) < 32 or letter in "\x7f?#*" for letter in path):
            raise ConfigError(
                f"{said_by}{text!r} has a character that names of objects cannot have "
                "(?, #, * or a control character); leave it out"
            )
        if len(path.encode(errors="replace")) > MOST_BYTES // 2:
            raise ConfigError(
                f"{said_by}{text} has more than {MOST_BYTES // 2} bytes in its path, which leaves "
                "no room for the files of a run; choose a shorter one"
            )
        return cls(kind, bucket, "/".join(names))

    def __str__(self) -> str:
        return f"{self.kind}://{self.bucket}" + (f"/{self.path}" if self.path else "")

    def __truediv__(self, name: str) -> "Address":
        """The address of a directory or object inside this one."""
        return dataclasses.replace(self, path=f"{self.path}/{name}" if self.path else name)

    @property
    def parent(self) -> "Address":
        """The address of the parent directory; the whole bucket is its own parent."""
        return dataclasses.replace(self, path=self.path.rpartition("/")[0])

    @property
    def link(self) -> str:
        """The address of an object in a browser, for a person with access; empty if it has none.

        The console of Google asks for the account; objects elsewhere have none that does.
        """
        if self.kind != "gs":
            return ""
        return f"https://storage.cloud.google.com/{self.bucket}/{quote(self.path)}"

    @property
    def name(self) -> str:
        """The last component of the path, or the name of the bucket."""
        return self.path.rpartition("/")[2] or self.bucket


def refuse_web(text: str, said_by: str = "") -> None:
    """Raises ConfigError for an address in the web."""
    if text.lower().startswith(("http://", "https://")):
        raise ConfigError(
            f"{said_by}{text} is in the web, which resjax does not open; download what is there, "
            "and name the copy"
        )

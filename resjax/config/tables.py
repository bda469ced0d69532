"""Tables of the parts that a config chooses by name, and to which experiment files may add."""

from collections.abc import Callable, Mapping
from typing import Any

TABLES: dict[str, "OpenTable"] = {}
"""All tables by their names in the code, as far as the modules that define them are loaded.

They hold networks, losses and optimisers, and so a table is loaded with JAX. Where JAX is not
loaded yet, nobody can have added to one.
"""


class OpenTable(dict[str, Any]):
    """The parts that a key chooses from, {value of the key: part}.

    Args:
      name: name of the table in the code.
      key: key of a config that takes its names.
      entries: the parts of resjax itself.
      fits: tells whether something may be an entry.
      expected: words for what an entry is.

    Attributes:
      own: the entries of resjax itself, whatever was added since.
    """

    def __init__(
        self,
        name: str,
        key: str,
        entries: Mapping[str, Any],
        fits: Callable[[Any], bool],
        expected: str,
    ):
        super().__init__(entries)
        self.key, self.own, self.fits, self.expected = key, dict(entries), fits, expected
        TABLES[name] = self

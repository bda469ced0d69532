"""Comparison of networks, and of other constants of programs, by value."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any


def by_value(part: Any) -> tuple:
    """A hashable form of a part; two parts of the same form compute the same.

    The form of a module or other dataclass, and of a partial function, is its type and the forms of
    its fields; that of anything else is itself, with its type. So functions are told apart by
    identity, and 1, 1.0 and True are three parts.
    """
    if isinstance(part, functools.partial):
        return functools.partial, part.func, by_value(part.args), by_value(part.keywords)
    if isinstance(part, Mapping):
        return type(part), *((name, by_value(part[name])) for name in sorted(part))
    if isinstance(part, tuple | list):
        return type(part), *map(by_value, part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = dataclasses.fields(part)
        return type(part), *((field.name, by_value(getattr(part, field.name))) for field in fields)
    return type(part), part.hex() if isinstance(part, float) else part


@dataclasses.dataclass(frozen=True)
class ByValue:
    """A wrapper that equals another if what they wrap is equal by value; a key of caches."""

    wrapped: Any = dataclasses.field(compare=False)
    form: tuple = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "form", by_value(self.wrapped))

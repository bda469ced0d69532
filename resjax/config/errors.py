"""Errors and warnings meant for a person, and their messages in one line."""


class ConfigError(ValueError):
    """An experiment that cannot be run as it is written: one line with the value and the remedy."""


class Notice(UserWarning):
    """A warning meant for a person; the run continues.

    The command prints it whatever the environment says about warnings.
    """


class UnknownName(ConfigError):
    """A name that a key does not take.

    Attributes:
      definable: whether an experiment file may define it.
    """

    def __init__(self, message: str, definable: bool = False):
        super().__init__(message)
        self.definable = definable


def message_of(error: BaseException) -> str:
    """The message of an exception in one line; empty if it has none, or computing it fails."""
    try:
        return " ".join(str(error).split())
    except Exception:
        return ""


def type_and_message(error: BaseException) -> str:
    r"""The type of an exception and its message, in one line.

    >>> type_and_message(ValueError("a\nb")), type_and_message(KeyError())
    ('ValueError: a b', 'KeyError')
    """
    text = message_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

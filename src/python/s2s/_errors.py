"""What may go wrong. Every error says where, and most say what would be right."""

from __future__ import annotations


class Error(Exception):
    """The base of all errors of this package.

    `message` is the sentence without the place; `help` says what would be right. The place is a `file` with the 1-based `line` and
    the dotted `key`, or a `graph` with its `node`; what is not known is None. An error of a kind that is not named here is a defect.
    """

    def __init__(
        self,
        text: str,
        *,
        message: str | None = None,
        help: str | None = None,
        file: object = None,
        line: int | None = None,
        key: str | None = None,
        graph: str | None = None,
        node: str | None = None,
    ) -> None:
        super().__init__(text if help is None else f"{text}\n  help: {help}")
        self.message = text if message is None else message
        self.help = help
        self.file = None if file is None else str(file)
        self.line = line
        self.key = key
        self.graph = graph
        self.node = node

    def __reduce__(self) -> tuple:
        fields = {name: value for name, value in self.__dict__.items() if name != "text"}
        return (_again, (type(self), self.args, fields))


def _again(kind: type, args: tuple, fields: dict) -> Error:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class UsageError(Error, TypeError):
    """An argument does not fit."""


class ConfigError(Error, ValueError):
    """A config or a decoding option has an unknown key, a wrong type or a value out of range."""


class DataError(Error, ValueError):
    """Training data cannot be read as described."""


class BundleError(Error, ValueError):
    """A bundle is damaged, incomplete, mixed from several exports, or of an unknown version."""


class ParityError(Error):
    """Two computations that must agree do not."""


class InputError(Error, ValueError):
    """A text cannot be translated: it has symbols that are unknown, under `unknown="error"`."""


class TooLongError(InputError):
    """A text, or what is asked for it, is longer than a limit."""


class EngineError(Error, RuntimeError):
    """An engine is missing, too old, or failed on a graph."""


class IoError(Error, OSError):
    """Reading or writing failed."""


class TimeoutError(Error, TimeoutError):  # noqa: A001
    """The time was over."""


class InterruptedError(Error, InterruptedError):  # noqa: A001
    """A signal asked to stop."""

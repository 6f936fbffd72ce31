"""Sequence-to-sequence models: train, export as ONNX graphs, decode, serve.

    >>> import s2s
    >>> translator = s2s.Translator.open("exported/dates")
    >>> translator.translate("April 3, 1999")
    '1999-04-03'

`Translator` decodes the bundles that `export` wrote and the folders that `optimum-cli export onnx` wrote, on the processor or
with ONNX Runtime on a GPU. `train`, `export`, `verify` and `lint` are the commands of the program `s2s`, which comes with this
package, with results instead of prints. `Error` is the base of all that goes wrong.
"""

from ._bundle import Bundle
from ._commands import Report, Run, export, lint, train, verify
from ._errors import (
    BundleError,
    ConfigError,
    DataError,
    EngineError,
    Error,
    InputError,
    InterruptedError,
    IoError,
    ParityError,
    TimeoutError,
    TooLongError,
    UsageError,
)
from ._native import Hypothesis, Score, Translation, __version__
from ._translator import Stream, Translator

__all__ = [
    "Bundle",
    "BundleError",
    "ConfigError",
    "DataError",
    "EngineError",
    "Error",
    "Hypothesis",
    "InputError",
    "InterruptedError",
    "IoError",
    "ParityError",
    "Report",
    "Run",
    "Score",
    "Stream",
    "TimeoutError",
    "TooLongError",
    "Translation",
    "Translator",
    "UsageError",
    "__version__",
    "export",
    "lint",
    "train",
    "verify",
]

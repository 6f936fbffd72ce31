from collections.abc import Callable
from os import PathLike
from typing import Any, final

import numpy
import numpy.typing

__version__: str

def main(arguments: list[str]) -> int: ...
def look_in(folder: str) -> None: ...
def train(arguments: list[str], callback: Callable[[str], object] | None) -> PathLike[str]: ...
def export(arguments: list[str]) -> tuple[PathLike[str], str]: ...
def verify(arguments: list[str]) -> str: ...
def lint(path: str | PathLike[str], runtimes: list[str]) -> str: ...
@final
class Hypothesis:
    """One translation of a text, with what was asked for about it."""

    @property
    def text(self) -> str: ...
    @property
    def score(self) -> float:
        """log p by `length_penalty_type` and `coverage_penalty`; 0 unless asked for or beams needed it."""
    @property
    def finish(self) -> str:
        """Why it ended: `eos`, `length`, `stop`, `cancelled` or `timeout`."""
    @property
    def generated_tokens(self) -> int:
        """Tokens, END counted."""
    @property
    def tokens(self) -> list[str]:
        """The symbols; empty unless token scores or attention were asked for."""
    @property
    def token_scores(self) -> list[float]:
        """log p of each generated token, END's last; empty unless asked for."""
    @property
    def attention(self) -> numpy.typing.NDArray[numpy.float32] | None:
        """float32 (target tokens, source tokens); None unless asked for."""

@final
class Translation:
    """A text's best translation with all others that were asked for."""

    @property
    def text(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def source_tokens(self) -> int: ...
    @property
    def unknown(self) -> list[str]:
        """Source symbols outside the vocabulary, each once."""
    @property
    def hypotheses(self) -> list[Hypothesis]:
        """The best first."""

@final
class Score:
    """How probable the model holds a translation that was given; `float(score)` is `log_p`."""

    def __float__(self) -> float: ...
    @property
    def log_p(self) -> float:
        """The natural logarithm of its probability: the sum of `token_scores`."""
    @property
    def tokens(self) -> list[str]: ...
    @property
    def token_scores(self) -> list[float]:
        """log p of each token given those before it, END's last."""
    @property
    def attention(self) -> numpy.typing.NDArray[numpy.float32] | None:
        """float32 (target tokens, source tokens); None unless asked for."""

class Translator:
    def __init__(self, path: Any, engine: str, device: str, workers: int | None, max_batch: int) -> None: ...
    @property
    def engine(self) -> str: ...
    @property
    def workers(self) -> int: ...
    def translate(self, texts: list[str], decoding: str | None, raises: bool) -> list[Any]: ...
    def details(self, texts: list[str], decoding: str | None, raises: bool) -> list[Any]: ...
    def n_best(self, texts: list[str], decoding: str | None, raises: bool) -> list[Any]: ...
    def score(self, sources: list[str], targets: list[str], decoding: str | None, raises: bool) -> list[Any]: ...
    def stream(self, text: str, decoding: str | None) -> Stream: ...

class Stream:
    def next(self) -> str | Translation | None: ...
    def cancel(self) -> None: ...

class Bundle:
    def __init__(self, path: Any) -> None: ...
    def manifest(self) -> str: ...
    def file(self, name: str) -> bytes | None: ...
    def size(self, side: str) -> int: ...
    def encode(self, side: str, text: str) -> list[int]: ...

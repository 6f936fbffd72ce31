"""Texts to translations."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from typing import Any, Literal, overload

from . import _native
from ._bundle import Bundle
from ._native import Hypothesis, Score, Translation

Errors = Literal["raise", "return"]
_found = False


def find_onnxruntime() -> None:
    """Shows the engines the ONNX Runtime that this Python has, without importing it."""
    global _found
    if not _found:
        _found = True
        try:
            spec = find_spec("onnxruntime")
        except (ImportError, ValueError):
            return
        for folder in (spec and spec.submodule_search_locations) or ():
            _native.look_in(os.path.join(os.path.abspath(folder), "capi"))


def _json(decoding: dict[str, Any]) -> str | None:
    return json.dumps(decoding, ensure_ascii=False) if decoding else None


class Translator:
    """Translates text with a bundle.

    Any number of threads may use one; each call works outside Python's lock, and a call with many texts uses up to `workers`
    threads of its own. A process that was forked opens the bundle anew at its first call; a pickled translator is its path and
    options, so that workers of pools open their own.

    Decoding options are keyword arguments of every method, over those of the bundle: `num_beams`, `max_new_tokens`,
    `length_penalty`, `do_sample`, `temperature`, `top_k`, `target_language`, `unknown` and all other keys of docs/decoding.md.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        engine: Literal["auto", "tract", "ort"] = "auto",
        device: Literal["cpu", "cuda", "auto"] = "cpu",
        workers: int | None = None,
        max_batch_size: int = 64,
    ) -> None:
        """Opens a bundle: a folder that `s2s export` or `optimum-cli export onnx` wrote, or a zip of it.

        :param engine: `tract` needs nothing; `ort` is ONNX Runtime, of the package onnxruntime or named in ORT_DYLIB_PATH;
            `auto` takes the faster one for this bundle.
        :param device: `cuda` needs ONNX Runtime with its CUDA provider.
        :param workers: threads of a call with many texts; by default as many as processors may be used.
        :param max_batch_size: rows that a thread decodes together; a beam is a row.
        :raises BundleError: if it is no bundle, or a damaged one.
        :raises EngineError: if the engine is missing or cannot run the graphs.
        """
        self.path = os.path.abspath(os.fspath(path))
        self._options = {"engine": engine, "device": device, "workers": workers, "max_batch_size": max_batch_size}
        if engine != "tract":
            find_onnxruntime()
        self._native = _native.Translator(path, engine, device, workers, max_batch_size)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        engine: Literal["auto", "tract", "ort"] = "auto",
        device: Literal["cpu", "cuda", "auto"] = "cpu",
        workers: int | None = None,
        max_batch_size: int = 64,
    ) -> Translator:
        """Opens a bundle, as the constructor does."""
        return cls(path, engine=engine, device=device, workers=workers, max_batch_size=max_batch_size)

    def __reduce__(self) -> tuple:
        return (_open, (type(self), self.path, self._options))

    def __repr__(self) -> str:
        return f"Translator({self.path!r}, engine={self.engine!r}, workers={self.workers})"

    @property
    def engine(self) -> str:
        """The engine that runs the graphs: `tract` or `ort`."""
        return self._native.engine

    @property
    def workers(self) -> int:
        """Threads of a call with many texts."""
        return self._native.workers

    @property
    def bundle(self) -> Bundle:
        """The bundle, opened again to be looked at."""
        return Bundle(self.path)

    @overload
    def translate(self, texts: str, *, errors: Literal["raise"] = "raise", **decoding: Any) -> str: ...
    @overload
    def translate(self, texts: Iterable[str], *, errors: Literal["raise"] = "raise", **decoding: Any) -> list[str]: ...
    @overload
    def translate(self, texts: Iterable[str], *, errors: Errors, **decoding: Any) -> list[str | Exception]: ...
    def translate(self, texts: str | Iterable[str], *, errors: Errors = "raise", **decoding: Any) -> Any:
        """Translates a text to a text, or texts to a list in their order.

        :param errors: with `return`, a text that cannot be translated has its exception in its place, and the others go on.
        :raises InputError: for the first text that cannot be translated.
        :raises ConfigError: for a decoding option that does not fit.
        """
        return self._each(self._native.translate, texts, errors, decoding)

    @overload
    def details(self, texts: str, *, errors: Literal["raise"] = "raise", **decoding: Any) -> Translation: ...
    @overload
    def details(self, texts: Iterable[str], *, errors: Literal["raise"] = "raise", **decoding: Any) -> list[Translation]: ...
    @overload
    def details(self, texts: Iterable[str], *, errors: Errors, **decoding: Any) -> list[Translation | Exception]: ...
    def details(self, texts: str | Iterable[str], *, errors: Errors = "raise", **decoding: Any) -> Any:
        """As `translate`, with all that is known about each translation.

        Scores come with `output={"scores": True}`, log p of each token with `output={"token_scores": True}`, and attention
        weights as NumPy arrays with `output={"attention": True}`.
        """
        return self._each(self._native.details, texts, errors, decoding)

    @overload
    def n_best(self, texts: str, n: int = 5, *, errors: Literal["raise"] = "raise", **decoding: Any) -> list[Hypothesis]: ...
    @overload
    def n_best(
        self, texts: Iterable[str], n: int = 5, *, errors: Errors = "raise", **decoding: Any
    ) -> list[list[Hypothesis]]: ...
    def n_best(self, texts: str | Iterable[str], n: int = 5, *, errors: Errors = "raise", **decoding: Any) -> Any:
        """The `n` best translations of a text, the best first, or of each text.

        They come from `n` beams unless `num_beams` asks for more; with `do_sample=True` they are drawn.
        """
        decoding = {"num_return_sequences": n, "output": {"scores": True}, **decoding}
        if not decoding.get("do_sample"):
            decoding.setdefault("num_beams", n)
        return self._each(self._native.n_best, texts, errors, decoding)

    @overload
    def score(self, sources: str, targets: str, *, errors: Literal["raise"] = "raise", **decoding: Any) -> Score: ...
    @overload
    def score(
        self, sources: Iterable[str], targets: Iterable[str], *, errors: Errors = "raise", **decoding: Any
    ) -> list[Score]: ...
    def score(
        self, sources: str | Iterable[str], targets: str | Iterable[str], *, errors: Errors = "raise", **decoding: Any
    ) -> Any:
        """How probable the model holds a given translation of a text: log p of it and of each of its tokens, END's last.

        :raises UsageError: if there are not as many targets as sources.
        """
        if isinstance(sources, str) != isinstance(targets, str):
            raise _mismatch("a text is scored with a text, and a list with a list")
        if isinstance(sources, str):
            return self._native.score([sources], [targets], _json(decoding), True)[0]
        sources, targets = list(sources), list(targets)
        if len(sources) != len(targets):
            raise _mismatch(f"{len(sources)} sources and {len(targets)} targets")
        return self._native.score(sources, targets, _json(decoding), _raises(errors))

    def translate_iter(
        self, texts: Iterable[str], *, block: int = 4096, errors: Errors = "raise", **decoding: Any
    ) -> Iterator[str]:
        """Translates any number of texts while they are read, `block` at a time, so that memory stays flat."""
        texts = iter(texts)
        while part := list(islice(texts, max(block, 1))):
            yield from self._each(self._native.translate, part, errors, decoding)

    def stream(self, text: str, **decoding: Any) -> Stream:
        """Translates a text piece by piece: `for piece in ...` or `async for piece in ...`."""
        return Stream(self._native.stream(text, _json(decoding)))

    def _each(self, native: Any, texts: str | Iterable[str], errors: Errors, decoding: dict[str, Any]) -> Any:
        if isinstance(texts, str):
            return native([texts], _json(decoding), True)[0]
        return native(texts if isinstance(texts, list) else list(texts), _json(decoding), _raises(errors))


class Stream(Iterator[str], AsyncIterator[str]):
    """The pieces of a translation while it is decoded; all together are its text. Beams give all at once."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._result: Translation | None = None

    @property
    def result(self) -> Translation | None:
        """The whole translation, once its last piece was given."""
        return self._result

    def cancel(self) -> None:
        """Stops decoding; `result` is what there was."""
        self._native.cancel()

    def _next(self) -> str | None:
        while (piece := self._native.next()) is not None:
            if isinstance(piece, str):
                return piece
            self._result = piece
        return None

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        piece = self._next()
        if piece is None:
            raise StopIteration
        return piece

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> str:
        import asyncio

        piece = await asyncio.get_running_loop().run_in_executor(None, self._next)
        if piece is None:
            raise StopAsyncIteration
        return piece


def _open(kind: type, path: str, options: dict[str, Any]) -> Translator:
    return kind(path, **options)


def _raises(errors: str) -> bool:
    if errors not in ("raise", "return"):
        raise _mismatch(f'errors is "raise" or "return", and not {errors!r}')
    return errors == "raise"


def _mismatch(message: str) -> Exception:
    from ._errors import UsageError

    return UsageError(message)

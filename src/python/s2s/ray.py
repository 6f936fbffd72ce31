"""Translations on Ray: a column of a dataset, or files.

    >>> import ray, s2s.ray
    >>> dataset = ray.data.read_parquet("texts/")
    >>> s2s.ray.translate(dataset, "exported/dates", column="text").write_parquet("translations/")

Every worker of the cluster opens the bundle, by its path, once.
"""

from __future__ import annotations

import os
from typing import Any

import ray

from . import bulk


class _Worker:
    """An actor that has opened the bundle."""

    def __init__(self, bundle: str, column: str, translation: str, options: dict, decoding: dict) -> None:
        self.names = (column, translation)
        self.decoding = decoding
        self.translator = bulk.opened(bundle, options)

    def __call__(self, batch: Any) -> Any:
        column, translation = self.names
        batch[translation], batch["error"] = bulk.translate_rows(self.translator, batch[column].tolist(), self.decoding)
        return batch


def translate(
    dataset: ray.data.Dataset,
    bundle: str | os.PathLike[str],
    *,
    column: str = "text",
    translation: str = "translation",
    workers: int | None = None,
    batch_size: int = 4096,
    options: dict[str, Any] | None = None,
    num_gpus: float | None = None,
    **decoding: Any,
) -> ray.data.Dataset:
    """Adds the columns `translation` and `error` to a dataset, lazily.

    Rows keep their order if `ray.data.DataContext.get_current().execution_options.preserve_order` is set.

    :param workers: actors, one processor each; by default as many as the cluster has processors, less one for reading.
    :param options: of `Translator.open`; with `num_gpus`, `{"engine": "ort", "device": "cuda"}`.
    """
    count = workers or max(int(ray.cluster_resources().get("CPU", 1)) - 1, 1)
    arguments = (os.path.abspath(bundle), column, translation, {"workers": 1, **(options or {})}, decoding)
    return dataset.map_batches(
        _Worker,
        fn_constructor_args=arguments,
        compute=ray.data.ActorPoolStrategy(size=count),
        batch_size=batch_size,
        batch_format="pandas",
        num_cpus=None if num_gpus else 1,
        num_gpus=num_gpus,
    )


def translate_files(
    inputs: Any,
    output: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    column: str = "text",
    translation: str = "translation",
    format: str | None = None,
    rows: int = 10_000,
    options: dict[str, Any] | None = None,
    retries: int = 3,
    **decoding: Any,
) -> bulk.Outcome:
    """Translates files as `bulk.translate_files` does, on the cluster: all of its machines see the same folders.

    A worker that dies has its part translated by another one, up to `retries` times.
    """
    job = bulk.prepare(inputs, output, bundle, column, translation, format, rows, {"workers": 1, **(options or {})}, decoding)

    def execute(parts: list[bulk.Part]) -> list[tuple[int, int]]:
        task = ray.remote(bulk.translate_part).options(num_cpus=1, max_retries=retries)
        reference = ray.put(job)
        return ray.get([task.remote(reference, part) for part in parts])

    return bulk.run(job, execute)

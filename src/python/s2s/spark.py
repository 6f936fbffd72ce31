"""Translations on Spark: a column of a data frame, or files.

    >>> import s2s.spark
    >>> frame = spark.read.parquet("texts/")
    >>> s2s.spark.translate(frame, "exported/dates", column="text").write.parquet("translations/")

Every Python worker opens the bundle, by its path, once. PYSPARK_PYTHON must name a Python that has this package.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from . import bulk


def translate(
    frame: DataFrame,
    bundle: str | os.PathLike[str],
    *,
    column: str = "text",
    translation: str = "translation",
    options: dict[str, Any] | None = None,
    **decoding: Any,
) -> DataFrame:
    """Adds the columns `translation` and `error` to a data frame, lazily; rows stay where they are."""
    names = [field.name for field in frame.schema.fields]
    if column not in names:
        raise bulk.DataError(f"there is no column {column!r}", help=f"there are {', '.join(names)}")
    kept = [field for field in frame.schema.fields if field.name not in (translation, "error")]
    fresh = [StructField(translation, StringType()), StructField("error", StringType())]
    path, opening = os.path.abspath(bundle), {"workers": 1, **(options or {})}

    def work(frames: Iterator[Any]) -> Iterator[Any]:
        translator = bulk.opened(path, opening)
        for part in frames:
            found = bulk.translate_rows(translator, part[column].tolist(), decoding)
            yield part.assign(**dict(zip((translation, "error"), found, strict=True)))

    return frame.mapInPandas(work, StructType(kept + fresh))


def translate_files(
    inputs: Any,
    output: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    session: SparkSession | None = None,
    column: str = "text",
    translation: str = "translation",
    format: str | None = None,
    rows: int = 10_000,
    options: dict[str, Any] | None = None,
    **decoding: Any,
) -> bulk.Outcome:
    """Translates files as `bulk.translate_files` does, on the cluster: all of its machines see the same folders.

    A worker that dies has its part translated by another one, as often as `spark.task.maxFailures` says.
    """
    job = bulk.prepare(inputs, output, bundle, column, translation, format, rows, {"workers": 1, **(options or {})}, decoding)

    def execute(parts: list[bulk.Part]) -> list[tuple[int, int]]:
        context = (session or SparkSession.builder.getOrCreate()).sparkContext
        return context.parallelize(parts, len(parts)).map(lambda part: bulk.translate_part(job, part)).collect()

    return bulk.run(job, execute)

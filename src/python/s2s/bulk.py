"""Files of texts to files of translations, on all processors of this machine or on those of an engine of yours.

    >>> from s2s import bulk
    >>> bulk.translate_files("texts.jsonl", "translations", "exported/dates", column="text")

The input is cut into parts of some thousand rows. Whoever translates a part reads it from the input, and writes it to a file of its
own in one step: a part is there whole or not at all, whatever dies meanwhile. Those that are there are not translated again, so
that the same call goes on where an earlier one stopped. Rows keep their order, and all columns that they had; a row that cannot
be translated has its reason in the column `error`. `s2s.ray` and `s2s.spark` hand the same parts to Ray and Spark.

Files are JSON lines (.jsonl), CSV with a header (.csv, .tsv), plain lines (.txt), each of them in UTF-8, and Parquet, which needs
pyarrow.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any

from ._errors import DataError, EngineError
from ._translator import Translator

JOB = "job.json"
UNREAD = "unread"
FORMATS = (".jsonl", ".csv", ".tsv", ".txt", ".parquet")
# A part whose workers die so often is at fault itself.
MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class Part:
    """Rows of a file that are translated together: a range of bytes, or of row groups in Parquet."""

    number: int
    file: str
    begin: int
    end: int


@dataclass(frozen=True)
class Job:
    """What is translated, with what, and to where."""

    bundle: str
    output: str
    column: str
    translation: str
    format: str
    options: dict[str, Any]
    """Of `Translator.open`."""
    decoding: dict[str, Any]
    parts: tuple[Part, ...]

    def path(self, part: Part) -> str:
        """The file of a part's translations."""
        return os.path.join(self.output, f"part-{part.number:06d}{self.format}")

    def waiting(self) -> list[Part]:
        """The parts that are not written yet."""
        there = set(os.listdir(self.output))
        return [part for part in self.parts if os.path.basename(self.path(part)) not in there]


@dataclass(frozen=True)
class Outcome:
    """What a call has done."""

    rows: int
    """Rows that it translated."""
    errors: int
    """Those among them that could not be translated."""
    parts: int
    """Parts that it wrote."""
    skipped: int
    """Parts that were there before."""


def translate_rows(
    translator: Translator, texts: Iterable[Any], decoding: dict[str, Any]
) -> tuple[list[str | None], list[str | None]]:
    """Translations and errors of texts, one of the two for each; what is no text is an error too."""
    texts = list(texts)
    found = iter(translator.translate([t for t in texts if isinstance(t, str)], errors="return", **decoding))
    translations, errors = [], []
    for text in texts:
        one = next(found) if isinstance(text, str) else DataError(f"no text but {_kind(text)}")
        translations.append(one if isinstance(one, str) else None)
        errors.append(None if isinstance(one, str) else str(one))
    return translations, errors


def _kind(value: Any) -> str:
    return "nothing" if value is None or value != value else f"a {type(value).__name__}"


_opened: dict[str, Translator] = {}


def opened(bundle: str, options: dict[str, Any]) -> Translator:
    """The translator of this process, opened once."""
    key = json.dumps([bundle, options], sort_keys=True)
    if key not in _opened:
        _opened[key] = Translator(bundle, **options)
    return _opened[key]


def translate_files(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    column: str = "text",
    translation: str = "translation",
    format: str | None = None,
    rows: int = 10_000,
    processes: int | None = None,
    options: dict[str, Any] | None = None,
    **decoding: Any,
) -> Outcome:
    """Translates files on the processors of this machine, a process each; goes on where an earlier call stopped.

    :param inputs: a file, a folder of files, a pattern such as `texts/*.jsonl`, or several of them, in this order.
    :param output: a folder for `part-000000.jsonl` and so on.
    :param column: the column with the texts; of plain lines there is one.
    :param translation: the column that gets the translations.
    :param format: `.jsonl`, `.csv`, `.tsv` or `.parquet`; by default that of the first input, and `.jsonl` for lines.
    :param rows: rows of a part.
    :param processes: by default as many as processors may be used.
    :param options: of `Translator.open`, for example `{"engine": "tract"}`.
    :param decoding: decoding options.
    :raises DataError: if an input cannot be read, or the folder belongs to another job.
    :raises EngineError: for a part whose workers die again and again.
    """
    # One thread a process: the processes are the threads.
    job = prepare(inputs, output, bundle, column, translation, format, rows, {"workers": 1, **(options or {})}, decoding)
    return run(job, lambda parts: _on_processes(job, parts, processes or len(os.sched_getaffinity(0))))


def run(job: Job, executor: Callable[[list[Part]], Iterable[tuple[int, int]]]) -> Outcome:
    """Lets `executor` call `translate_part` of every part that waits, and counts rows and errors."""
    waiting = job.waiting()
    counts = list(executor(waiting)) if waiting else []
    left = job.waiting()
    if left:
        raise EngineError(f"{len(left)} parts were not written, the first is {job.path(left[0])}", help="call it again")
    rows, errors = (sum(count) for count in zip(*counts, strict=True)) if counts else (0, 0)
    return Outcome(rows, errors, len(waiting), len(job.parts) - len(waiting))


def _on_processes(job: Job, parts: list[Part], processes: int) -> Iterator[tuple[int, int]]:
    attempts: dict[int, int] = {}
    while parts:
        with ProcessPoolExecutor(min(processes, len(parts)), mp_context=get_context("spawn")) as pool:
            try:
                for done in as_completed([pool.submit(translate_part, job, part) for part in parts]):
                    yield done.result()
                return
            except BrokenProcessPool:
                # A worker was killed, and all others with it: what they have written stays.
                parts = job.waiting()
                for part in parts[: processes]:
                    attempts[part.number] = attempts.get(part.number, 0) + 1
                    if attempts[part.number] >= MOST_ATTEMPTS:
                        raise EngineError(
                            f"{part.file}: whoever translates bytes {part.begin} to {part.end} is killed, again and again",
                            help="there may be too little memory: take fewer processes, or fewer rows a part",
                        ) from None


def translate_part(job: Job, part: Part) -> tuple[int, int]:
    """Translates a part and writes its file in one step; gives its rows, and how many of them have an error."""
    table = list(read_part(job, part))
    texts = [row.get(job.column) for row in table]
    translations, errors = translate_rows(opened(job.bundle, job.options), texts, job.decoding)
    for row, text, error in zip(table, translations, errors, strict=True):
        row[job.translation] = text
        row["error"] = "the line is no JSON object" if UNREAD in row else error
    path = job.path(part)
    fresh = f"{path}.{os.getpid()}.new"
    _write(fresh, job.format, table)
    os.replace(fresh, path)
    return len(table), sum(error is not None for error in errors)


def prepare(
    inputs: Any,
    output: Any,
    bundle: Any,
    column: str,
    translation: str,
    format: str | None,
    rows: int,
    options: dict[str, Any],
    decoding: dict[str, Any],
) -> Job:
    """Cuts the inputs into parts, and notes them in the output's folder; a folder of another job is refused."""
    files = list(_files(inputs))
    first = _ending(files[0])
    format = format or (".jsonl" if first == ".txt" else first)
    if format not in FORMATS or format == ".txt":
        raise DataError(f"{format!r} is no format to write", help="choose .jsonl, .csv, .tsv or .parquet")
    output = os.path.abspath(os.fspath(output))
    os.makedirs(output, exist_ok=True)
    # Before hours of work, not behind them.
    Translator(bundle, **options).translate([], **decoding)
    identity = {
        "files": [[file, os.path.getsize(file), os.stat(file).st_mtime_ns] for file in files],
        "bundle": hashlib.sha256(_manifest(bundle)).hexdigest(),
        "column": column,
        "translation": translation,
        "format": format,
        "rows": rows,
        "options": options,
        "decoding": decoding,
    }
    note = os.path.join(output, JOB)
    if os.path.exists(note):
        with open(note, encoding="utf-8") as file:
            known = json.load(file)
        if known["job"] != json.loads(json.dumps(identity)):
            other = [key for key in identity if known["job"].get(key) != json.loads(json.dumps(identity[key]))]
            raise DataError(
                f"{output} belongs to another job: {', '.join(other)} differ", help="name another folder, or delete this one"
            )
        parts = tuple(Part(**part) for part in known["parts"])
    else:
        cut = (piece for file in files for piece in _cut(file, max(rows, 1)))
        parts = tuple(Part(number, *piece) for number, piece in enumerate(cut))
        with open(f"{note}.new", "w", encoding="utf-8") as file:
            json.dump({"job": identity, "parts": [asdict(part) for part in parts]}, file, ensure_ascii=False)
        os.replace(f"{note}.new", note)
    return Job(os.path.abspath(bundle), output, column, translation, format, options, decoding, parts)


def _manifest(bundle: Any) -> bytes:
    from ._bundle import Bundle

    return Bundle(bundle).file("s2s.yaml") or b""


def _ending(file: str) -> str:
    ending = os.path.splitext(file)[1].lower()
    if ending not in FORMATS:
        raise DataError(f"{file}: files that end in {ending or 'nothing'} are not read", help=f"known are {', '.join(FORMATS)}")
    return ending


def _files(inputs: Any) -> Iterator[str]:
    for given in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
        name = os.path.abspath(os.fspath(given))
        if os.path.isdir(name):
            found = sorted(f for f in glob.glob(os.path.join(glob.escape(name), "*")) if f.lower().endswith(FORMATS))
        else:
            found = [name] if os.path.exists(name) else sorted(glob.glob(name))
        if not found:
            raise DataError(f"{name}: no such file", help=f"files end in one of {', '.join(FORMATS)}")
        yield from found


def _cut(file: str, rows: int) -> Iterator[tuple[str, int, int]]:
    """The parts of a file: its name with ranges of bytes, or of row groups."""
    ending = _ending(file)
    if ending == ".parquet":
        groups = _pyarrow().parquet.ParquetFile(file).metadata
        begin = count = 0
        for at in range(groups.num_row_groups):
            count += groups.row_group(at).num_rows
            if count >= rows or at + 1 == groups.num_row_groups:
                yield file, begin, at + 1
                begin, count = at + 1, 0
        return
    with open(file, "rb") as lines:
        if ending in (".csv", ".tsv"):
            next(_records(lines), b"")
        begin = end = lines.tell()
        count = 0
        for record in _records(lines) if ending in (".csv", ".tsv") else lines:
            end += len(record)
            count += 1
            if count == rows:
                yield file, begin, end
                begin, count = end, 0
        if count:
            yield file, begin, end


def _records(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The records of a CSV file: a newline between quotes ends none."""
    open_quotes, record = False, b""
    while line := lines.readline():
        open_quotes ^= line.count(b'"') % 2 == 1
        record += line
        if not open_quotes:
            yield record
            record = b""
    if record:
        yield record


def read_part(job: Job, part: Part) -> Iterator[dict[str, Any]]:
    """The rows of a part as dicts; a line that is no JSON object is kept as it is, in the column `unread`."""
    ending = _ending(part.file)
    if ending == ".parquet":
        groups = _pyarrow().parquet.ParquetFile(part.file).read_row_groups(range(part.begin, part.end))
        _has_column(job, part, groups.column_names)
        yield from groups.to_pylist()
        return
    with open(part.file, "rb") as file:
        header = next(_records(file), b"") if ending in (".csv", ".tsv") else b""
        file.seek(part.begin)
        data = file.read(part.end - part.begin)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n")
        raise DataError(f"{part.file}: not UTF-8 in row {line + 1} behind byte {part.begin}") from None
    if ending in (".csv", ".tsv"):
        delimiter = "\t" if ending == ".tsv" else ","
        names = next(csv.reader(io.StringIO(header.decode("utf-8-sig"), newline=""), delimiter=delimiter), [])
        _has_column(job, part, names)
        yield from csv.DictReader(io.StringIO(text, newline=""), fieldnames=names, delimiter=delimiter)
        return
    for line in text.split("\n")[: -1 if text.endswith("\n") else None]:
        line = line.removesuffix("\r")
        if ending == ".txt":
            yield {job.column: line}
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        yield row if isinstance(row, dict) else {UNREAD: line}


def _has_column(job: Job, part: Part, names: Sequence[str]) -> None:
    if job.column not in names:
        raise DataError(f"{part.file}: there is no column {job.column!r}", help=f"there are {', '.join(names)}")


def _write(path: str, format: str, table: list[dict[str, Any]]) -> None:
    if format == ".parquet":
        pyarrow = _pyarrow()
        columns = list(dict.fromkeys(name for row in table for name in row))
        arrays = {name: [_utf8(row.get(name)) for row in table] for name in columns}
        # All of a part may be without a translation, or without an error: that is a column of text all the same.
        texts = {name: pyarrow.array(arrays.pop(name), pyarrow.string()) for name in columns[-2:]}
        pyarrow.parquet.write_table(pyarrow.table({**arrays, **texts}), path)
        return
    # Half of a surrogate pair, which JSON may name, is written as JSON names it.
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as out:
        if format == ".jsonl":
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
        else:
            names = list(dict.fromkeys(name for row in table for name in row if name is not None))
            delimiter = "\t" if format == ".tsv" else ","
            writer = csv.DictWriter(out, names, delimiter=delimiter, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
        out.flush()
        os.fsync(out.fileno())


def _utf8(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError("Parquet needs the package pyarrow", help="pip install pyarrow") from error
    return pyarrow

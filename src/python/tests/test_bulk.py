"""Files of texts to files of translations."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import s2s
from s2s import bulk


def rows_of(output):
    """All rows of an output, in the order of its parts."""
    rows = []
    for name in sorted(os.listdir(output)):
        if name.endswith(".jsonl"):
            rows += [json.loads(line) for line in open(f"{output}/{name}", encoding="utf-8")]
    return rows


@pytest.fixture()
def jsonl(tmp_path, texts):
    """Rows of which some are poisoned: no JSON, no text, no Unicode."""
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"id": at, "text": text}) for at, text in enumerate(texts)]
    lines[7], lines[8], lines[9] = "{no json", '{"id": 8, "text": null}', '{"id": 9, "text": "\\ud800"}'
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_keep_their_order_and_columns_and_a_poisoned_one_is_a_row_with_an_error(jsonl, tmp_path, dates, texts, translator):
    outcome = bulk.translate_files(jsonl, tmp_path / "out", dates, rows=300, processes=2)
    assert outcome == bulk.Outcome(rows=2000, errors=3, parts=7, skipped=0)
    rows = rows_of(tmp_path / "out")
    expected = translator.translate(texts)
    good = [at for at in range(2000) if at not in (7, 8, 9)]
    assert [rows[at] for at in good] == [
        {"id": at, "text": texts[at], "translation": expected[at], "error": None} for at in good
    ]
    assert rows[7] == {"unread": "{no json", "translation": None, "error": "the line is no JSON object"}
    assert rows[8]["error"] == "no text but nothing" and "surrogate" in rows[9]["error"]


def test_what_is_written_is_not_translated_again_and_another_job_is_refused(jsonl, tmp_path, dates):
    out = tmp_path / "out"
    bulk.translate_files(jsonl, out, dates, rows=300, processes=1)
    before = rows_of(out)
    os.remove(out / "part-000002.jsonl")
    (out / "part-000003.jsonl.99.new").write_text("half of a part")
    times = {name: os.stat(out / name).st_mtime_ns for name in os.listdir(out)}
    outcome = bulk.translate_files(jsonl, out, dates, rows=300, processes=1)
    assert (outcome.parts, outcome.skipped, outcome.rows) == (1, 6, 300)
    assert rows_of(out) == before
    assert all(os.stat(out / name).st_mtime_ns == time for name, time in times.items())
    with pytest.raises(s2s.DataError, match="another job: decoding differ"):
        bulk.translate_files(jsonl, out, dates, rows=300, num_beams=2)
    jsonl.write_text(jsonl.read_text() + '{"id": 2000, "text": "5 May 2001"}\n')
    with pytest.raises(s2s.DataError, match="another job: files differ"):
        bulk.translate_files(jsonl, out, dates, rows=300)


def test_csv_with_newlines_between_quotes_is_cut_between_records(tmp_path, dates, texts, translator):
    quoted = [f"{text}\n,\"{at}\"" if at % 3 == 0 else text for at, text in enumerate(texts[:500])]
    with open(tmp_path / "texts.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "source text"])
        writer.writerows(enumerate(quoted))
    bulk.translate_files(tmp_path / "texts.csv", tmp_path / "out", dates, column="source text", rows=64, processes=1)
    rows = []
    for part in sorted((tmp_path / "out").glob("part-*.csv")):
        with open(part, newline="", encoding="utf-8") as file:
            rows += list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [str(at) for at in range(500)]
    assert [row["source text"] for row in rows] == quoted
    assert [row["translation"] for row in rows] == translator.translate(quoted)


def test_lines_and_parquet(tmp_path, dates, texts, translator):
    (tmp_path / "in").mkdir()
    for at in range(3):
        (tmp_path / "in" / f"{at}.txt").write_text("\n".join(texts[at * 100 : (at + 1) * 100]))
    outcome = bulk.translate_files(tmp_path / "in", tmp_path / "lines", dates, rows=40, processes=1)
    assert outcome.rows == 300 and outcome.parts == 9
    assert [row["translation"] for row in rows_of(tmp_path / "lines")] == translator.translate(texts[:300])
    pyarrow = pytest.importorskip("pyarrow", reason="no pyarrow here; the tests of clusters have it")
    import pyarrow.parquet

    table = pyarrow.table({"id": list(range(300)), "text": texts[:300]})
    pyarrow.parquet.write_table(table, tmp_path / "texts.parquet", row_group_size=50)
    outcome = bulk.translate_files(tmp_path / "texts.parquet", tmp_path / "columns", dates, rows=100, processes=1)
    assert outcome == bulk.Outcome(rows=300, errors=0, parts=3, skipped=0)
    found = pyarrow.concat_tables(
        pyarrow.parquet.read_table(part) for part in sorted((tmp_path / "columns").glob("*.parquet"))
    )
    assert found["translation"].to_pylist() == translator.translate(texts[:300])
    assert found["error"].type == pyarrow.string()


def test_what_cannot_be_read_is_named(tmp_path, dates):
    with pytest.raises(s2s.DataError, match="no such file"):
        bulk.translate_files(tmp_path / "nothing.csv", tmp_path / "out", dates)
    (tmp_path / "a.csv").write_text("id,words\n1,x\n")
    with pytest.raises(s2s.DataError, match="no column 'text'") as found:
        bulk.translate_files(tmp_path / "a.csv", tmp_path / "out2", dates, processes=1)
    assert "id, words" in found.value.help
    (tmp_path / "b.txt").write_bytes(b"good\nb\xffd\n")
    with pytest.raises(s2s.DataError, match="not UTF-8 in row 2"):
        bulk.translate_files(tmp_path / "b.txt", tmp_path / "out3", dates, processes=1)
    with pytest.raises(s2s.ConfigError):
        bulk.translate_files(tmp_path / "b.txt", tmp_path / "out4", dates, num_beam=2)


SCRIPT = """
import sys
from s2s import bulk
if __name__ == "__main__":
    print(bulk.translate_files(sys.argv[1], sys.argv[2], sys.argv[3], rows=500, processes=2, options={"max_batch_size": 8}))
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
def test_a_worker_that_is_killed_costs_its_part_alone(tmp_path, dates, texts, translator):
    texts = texts * 10
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"id": at, "text": text}) + "\n" for at, text in enumerate(texts)))
    script, out = tmp_path / "job.py", tmp_path / "out"
    script.write_text(SCRIPT)
    job = subprocess.Popen([sys.executable, script, source, out, dates], stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(out.glob("part-*.jsonl")):
        assert time.monotonic() < until and job.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(workers[-1]), signal.SIGKILL)
    said, _ = job.communicate(timeout=120)
    assert job.returncode == 0 and "skipped=0" in said, said
    rows = rows_of(out)
    assert [row["id"] for row in rows] == list(range(len(texts)))
    assert [row["translation"] for row in rows] == translator.translate(texts)

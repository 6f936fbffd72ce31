"""Ray and Spark, each on a real cluster of this machine: 200,000 texts while a worker is killed.

`S2S_CLUSTER_ROWS` asks for another number of texts.
"""

import glob
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import s2s

ROWS = int(os.environ.get("S2S_CLUSTER_ROWS", "200000"))
DATES = str(Path(__file__).resolve().parents[4] / "exported" / "dates")
MONTHS = "January Feb march Apr. May JUNE July aug September Oct Nov. December".split()


def text(at: int) -> str:
    return f"{1 + at % 28} {MONTHS[at % 12]} {1950 + at // 7 % 100}"


@pytest.fixture(scope="module")
def expected():
    """What the package says without a cluster."""
    known = sorted({text(at) for at in range(ROWS)})
    return dict(zip(known, s2s.Translator.open(DATES).translate(known), strict=True))


@pytest.fixture()
def source(tmp_path):
    """A file with a poisoned row in its middle."""
    path = tmp_path / "texts.jsonl"
    with open(path, "w", encoding="utf-8") as out:
        for at in range(ROWS):
            out.write("{no json\n" if at == ROWS // 2 else json.dumps({"id": at, "text": text(at)}) + "\n")
    return path


def check(rows, expected):
    """Nothing is lost, nothing is there twice, all of it is right and in its order."""
    assert len(rows) == ROWS
    poisoned = rows[ROWS // 2]
    assert poisoned["unread"] == "{no json" and poisoned["translation"] is None and poisoned["error"]
    for at, row in enumerate(rows):
        if at != ROWS // 2:
            assert row["id"] == at and row["error"] is None and row["translation"] == expected[row["text"]], row


def rows_of(output):
    return [json.loads(line) for part in sorted(glob.glob(f"{output}/part-*.jsonl")) for line in open(part, encoding="utf-8")]


def processes(mark: bytes) -> list[int]:
    """Processes whose command line has `mark`."""
    found = []
    for file in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if mark in Path(file).read_bytes():
                found.append(int(file.split("/")[2]))
        except OSError:
            continue
    return found


class Killer(threading.Thread):
    """Kills one worker as soon as something is written."""

    def __init__(self, output, mark):
        super().__init__(daemon=True)
        self.output, self.mark, self.killed = output, mark, None

    def run(self):
        until = time.monotonic() + 120
        while self.killed is None and time.monotonic() < until:
            if glob.glob(f"{self.output}/part-*"):
                found = processes(self.mark)
                if found:
                    # The youngest: Spark's workers are children of a process that looks the same.
                    self.killed = max(found)
                    os.kill(self.killed, signal.SIGKILL)
                    return
            time.sleep(0.005)


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray", reason="ray is not installed")
    import ray.data

    environment = {"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}}
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def spark():
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")
    if not shutil.which("java"):
        pytest.skip("there is no Java 17")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = sql.SparkSession.builder.master("local[2,4]").appName("s2s").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.execution.arrow.pyspark.enabled", "true").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


def test_ray_translates_files_whole_and_once_though_a_worker_is_killed(ray, source, expected, tmp_path):
    import s2s.ray

    killer = Killer(tmp_path / "out", b"ray::translate_part")
    killer.start()
    outcome = s2s.ray.translate_files(source, tmp_path / "out", DATES, rows=5000)
    killer.join()
    assert killer.killed, "no worker was found to be killed"
    assert outcome.parts == -(-ROWS // 5000)
    check(rows_of(tmp_path / "out"), expected)
    again = s2s.ray.translate_files(source, tmp_path / "out", DATES, rows=5000)
    assert (again.rows, again.skipped) == (0, outcome.parts)


def test_ray_adds_columns_to_a_dataset_in_its_order_with_an_actor_killed(ray, expected):
    import s2s.ray

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    dataset = ray.data.from_items([{"id": at, "text": text(at)} for at in range(ROWS)])
    dataset = dataset.repartition(20)
    killed = []

    def kill():
        until = time.monotonic() + 120
        while not killed and time.monotonic() < until:
            for process in processes(b"ray::MapWorker"):
                time.sleep(0.3)
                os.kill(process, signal.SIGKILL)
                killed.append(process)
                break
            time.sleep(0.01)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    rows = s2s.ray.translate(dataset, DATES, workers=2).take_all()
    killer.join()
    assert killed, "no actor was found to be killed"
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert all(row["translation"] == expected[row["text"]] and row["error"] is None for row in rows)


def test_spark_translates_files_whole_and_once_though_a_worker_is_killed(spark, source, expected, tmp_path):
    import s2s.spark

    killer = Killer(tmp_path / "out", b"pyspark.daemon")
    killer.start()
    outcome = s2s.spark.translate_files(source, tmp_path / "out", DATES, rows=5000)
    killer.join()
    assert killer.killed, "no worker was found to be killed"
    assert outcome.parts == -(-ROWS // 5000)
    check(rows_of(tmp_path / "out"), expected)


def test_spark_adds_columns_to_a_frame_and_files_are_parquet_in_and_out(spark, expected, tmp_path):
    import s2s.spark

    import pandas

    table = pandas.DataFrame({"id": range(ROWS), "text": [text(at) for at in range(ROWS)]})
    spark.createDataFrame(table).repartitionByRange(8, "id").write.parquet(str(tmp_path / "in"))
    frame = spark.read.parquet(str(tmp_path / "in"))
    s2s.spark.translate(frame, DATES).write.parquet(str(tmp_path / "out"))
    rows = spark.read.parquet(str(tmp_path / "out")).orderBy("id").collect()
    assert [row.id for row in rows] == list(range(ROWS))
    assert all(row.translation == expected[row.text] and row.error is None for row in rows)
    with pytest.raises(s2s.DataError, match="no column 'words'"):
        s2s.spark.translate(frame, DATES, column="words")

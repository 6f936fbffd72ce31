"""Writes events.json: records of event files in hexadecimal, as the tensorboard package writes them."""

import io
import sys

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from golden_file import main


def record(event: Event) -> str:
    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString(deterministic=True))
    return buffer.getvalue().hex()


def scalars(**values: float) -> str:
    summary = Summary(value=[Summary.Value(tag=f"epoch_{tag}", simple_value=value) for tag, value in values.items()])
    return record(Event(wall_time=1_700_000_000.25, step=3, summary=summary))


def goldens() -> dict:
    return {
        "version": record(Event(wall_time=1.5, file_version="brain.Event:2")),
        "train": scalars(loss=1 / 3, accuracy=0.0, learning_rate=1e-3),
        "validation": scalars(loss=0.5, accuracy=0.0, exact_match=0.25),
    }


if __name__ == "__main__":
    sys.exit(main("events.json", goldens(), indent=1))

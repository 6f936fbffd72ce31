"""Writes callbacks.json: what Keras's EarlyStopping and ReduceLROnPlateau decide about seeded series of scores."""

import os
import random
import sys
from types import SimpleNamespace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras

from golden_file import main

LEARNING_RATE = 0.125

# Options that differ from Keras's defaults; the first of each kind has none, but for the mode that these series have.
EARLY_STOPPING = [
    {},
    {"patience": 2},
    {"patience": 3, "min_delta": 0.125},
    {"patience": 2, "start_from_epoch": 4},
    {"patience": 4, "baseline": 1.0},
    {"patience": 4, "baseline": 0.25},
    {"patience": 0, "start_from_epoch": 1},
]
REDUCE = [
    {},
    {"patience": 1, "factor": 0.5},
    {"patience": 2, "factor": 0.5, "cooldown": 2},
    {"patience": 1, "factor": 0.25, "min_delta": 0.125, "min_lr": 0.03125},
    {"patience": 0, "factor": 0.5, "min_lr": 0.01},
]


def series(seed: int, epochs: int, higher: bool) -> list[float]:
    """A noisy fall with a plateau at its end, or the same upside down; multiples of 1/64, which are exact everywhere."""
    draw = random.Random(seed)
    values = [2.0 * 0.8 ** min(epoch, 8) + draw.uniform(-0.2, 0.2) for epoch in range(epochs)]
    return [round((2.0 - v if higher else v) * 64) / 64 for v in values]


def stopped_after(options: dict, mode: str, values: list[float]) -> int | None:
    callback = keras.callbacks.EarlyStopping(mode=mode, **options)
    callback.set_model(SimpleNamespace(stop_training=False))
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"val_loss": value})
        if callback.model.stop_training:
            return epoch + 1
    return None


def learning_rates(options: dict, mode: str, values: list[float]) -> list[float]:
    callback = keras.callbacks.ReduceLROnPlateau(mode=mode, **options)
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=LEARNING_RATE)))
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"val_loss": value})
        rates.append(callback.model.optimizer.learning_rate)
    return rates


def goldens() -> dict:
    cases = []
    for seed in range(4):
        for mode in ["min", "max"]:
            values = series(seed, 30, mode == "max")
            cases.append({
                "mode": mode,
                "values": values,
                "early_stopping": [{"options": o, "stopped_after": stopped_after(o, mode, values)} for o in EARLY_STOPPING],
                "reduce_lr_on_plateau": [{"options": o, "learning_rates": learning_rates(o, mode, values)} for o in REDUCE],
            })
    return {"keras": keras.__version__, "learning_rate": LEARNING_RATE, "cases": cases}


if __name__ == "__main__":
    sys.exit(main("callbacks.json", goldens(), separators=(",", ":")))

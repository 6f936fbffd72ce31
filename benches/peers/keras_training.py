"""Training steps a second of Keras 3 on TensorFlow on the CPU: the LSTM encoder and decoder of its seq2seq example.

    python keras_training.py --workload w1 [--input embedding] [--ragged] [--threads 2] [--seconds 10]

Padding is left out of the loss by sample weights.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import tensorflow as tf

from workloads import PAD, arguments, batches, measure, padded, report, workload


def build(sizes):
    """The teacher-forced model: ids or one-hot rows in, probabilities out."""
    layers, width = keras.layers, sizes["embedding"]

    def side(vocabulary, name):
        entry = keras.Input((None,) if width else (None, vocabulary), name=name, dtype="int32" if width else "float32")
        return entry, layers.Embedding(vocabulary, width)(entry) if width else entry

    source, x = side(sizes["source_vocabulary"], "encoder_input")
    states = []
    for _ in range(sizes["layers"]):
        x, h, c = layers.LSTM(sizes["hidden"], return_sequences=True, return_state=True)(x)
        states.append([h, c])
    target, y = side(sizes["target_vocabulary"], "decoder_input")
    for state in states:
        y = layers.LSTM(sizes["hidden"], return_sequences=True)(y, initial_state=state)
    model = keras.Model([source, target], layers.Dense(sizes["target_vocabulary"], activation="softmax")(y))
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy", jit_compile=False)
    return model


def main():
    args = arguments(__doc__).parse_args()
    sizes = workload(args)
    keras.utils.set_random_seed(1)
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    model, data, losses = build(sizes), [], []
    for batch in batches(sizes, args.ragged):
        source, decoder_input, expected = (np.array(rows, np.int32) for rows in padded(batch))
        weights = (expected != PAD).astype(np.float32)
        if not sizes["embedding"]:
            # PAD is the zero row, as in the seed's recipe.
            one_hot = lambda ids, size: np.eye(size, dtype=np.float32)[ids] * (ids != PAD)[:, :, None]
            source, decoder_input = one_hot(source, sizes["source_vocabulary"]), one_hot(decoder_input, sizes["target_vocabulary"])
        data.append(([source, decoder_input], expected, weights))

    def step(index):
        inputs, expected, weights = data[index]
        losses.append(float(model.train_on_batch(inputs, expected, sample_weight=weights)))

    speeds = measure(step, args.seconds)
    report(args, sizes, f"Keras {keras.__version__} on TensorFlow {tf.__version__}", speeds, losses)


if __name__ == "__main__":
    main()

"""OpenVINO on the CPU."""

import openvino

VERSION = openvino.__version__.split("-")[0]
# The CPU plugin computes in bf16 or f16 where the processor can, and with 8-bit weights in 8 bits; the graphs say f32.
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "INFERENCE_NUM_THREADS": 1}


def load(path, inputs, outputs):
    model = openvino.Core().compile_model(path, "CPU", SETTINGS)
    ports = [model.output(name) for name in outputs]

    def run(feed):
        results = model.create_infer_request().infer(feed)
        return [results[port].copy() for port in ports]

    return run

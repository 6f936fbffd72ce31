"""OpenCV's dnn module."""

import cv2
from overhear import overheard

VERSION = cv2.__version__


def load(path, inputs, outputs):
    said = []
    with overheard(said):
        # The older engine has no symbolic sizes; by default a failure of the newer one is hidden by its message.
        net = cv2.dnn.readNetFromONNX(path, cv2.dnn.ENGINE_NEW)
    if net.empty():
        # What it cannot read it leaves empty.
        raise RuntimeError(" | ".join(said) or "an empty network")

    def run(feed):
        for name in inputs:
            net.setInput(feed[name], name)
        return net.forward(outputs)

    return run

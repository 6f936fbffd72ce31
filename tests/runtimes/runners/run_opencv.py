"""OpenCV's dnn module."""

import cv2

VERSION = cv2.__version__


def load(path, inputs, outputs):
    net = cv2.dnn.readNetFromONNX(path)

    def run(feed):
        for name in inputs:
            net.setInput(feed[name], name)
        return net.forward(outputs)

    return run

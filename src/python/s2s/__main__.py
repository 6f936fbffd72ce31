"""The program: `s2s` and `python -m s2s`."""

import signal
import sys


def main() -> None:
    """Runs the program with the arguments of this process, and ends it with the program's exit code."""
    from ._native import main as run
    from ._translator import find_onnxruntime

    # The program has its own answers to Ctrl-C; Python's would wait until it is done. Where it is ignored, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    find_onnxruntime()
    sys.exit(run(["s2s", *sys.argv[1:]]))


if __name__ == "__main__":
    main()

"""What a library says on the process's own stdout and stderr, for those that say there what they refuse."""

import contextlib
import os
import tempfile


@contextlib.contextmanager
def overheard(lines):
    """Puts the lines that are said meanwhile into `lines`; they come on to stderr as well."""
    with tempfile.TemporaryFile() as log:
        kept = {fd: os.dup(fd) for fd in (1, 2)}
        for fd in kept:
            os.dup2(log.fileno(), fd)
        try:
            yield
        finally:
            for fd, own in kept.items():
                os.dup2(own, fd)
                os.close(own)
            log.seek(0)
            said = log.read()
            os.write(2, said)
            lines += [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]

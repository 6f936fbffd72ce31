"""The model of examples/triton in a real Triton Inference Server, which the package nvidia-pytriton carries, asked by its own client."""

import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest
import s2s

ROOT = Path(__file__).resolve().parents[4]
CLIENTS, TEXTS = 32, 2000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server's address."""
    pytriton = pytest.importorskip("pytriton", reason="nvidia-pytriton is not installed")
    if sys.platform != "linux":
        pytest.skip("nvidia-pytriton has a server for Linux alone")
    folder = tmp_path_factory.mktemp("triton")
    repository, backend = folder / "repository", folder / "backends" / "python"
    shutil.copytree(ROOT / "examples" / "triton", repository, ignore=shutil.ignore_patterns("*.md"))
    config = repository / "dates" / "config.pbtxt"
    config.write_text(config.read_text().replace("/bundles/dates", str(ROOT / "exported" / "dates")))
    # The backend's Python looks there, and at no PYTHONPATH.
    (repository / "dates" / "1" / "s2s").symlink_to(Path(s2s.__file__).parent)
    home = Path(pytriton.__file__).parent / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(home / "backends" / "python", backend)
    shutil.copy(home / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    libraries = [str(home.parents[1] / "nvidia_pytriton.libs"), os.path.join(sys.base_prefix, "lib")]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
    }
    command = [home / "bin" / "tritonserver", "--model-repository", repository, "--backend-directory", folder / "backends"]
    command += ["--http-address", "127.0.0.1", "--http-port", str(port), "--allow-grpc=false", "--allow-metrics=false", "--exit-timeout-secs", "2"]
    log = folder / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    client, until = http.InferenceServerClient(f"127.0.0.1:{port}"), time.monotonic() + 60
    try:
        while True:
            assert process.poll() is None and time.monotonic() < until, log.read_text()[-4000:]
            try:
                if client.is_model_ready("dates"):
                    break
            except OSError:
                pass
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        client.close()
        process.terminate()
        process.wait(30)


def ask(client, *texts):
    import tritonclient.http as http

    given = http.InferInput("text", [len(texts), 1], "BYTES")
    given.set_data_from_numpy(numpy.array([[text.encode()] for text in texts], dtype=object))
    return [text.decode() for text in client.infer("dates", [given]).as_numpy("translation").reshape(-1)]


def test_triton_answers_many_clients_as_the_package_translates(server):
    import tritonclient.http as http

    texts = [f"{1 + at % 28} {'May June July'.split()[at % 3]} {1950 + at % 99}" for at in range(TEXTS)]
    expected = s2s.Translator.open(ROOT / "exported" / "dates").translate(texts)

    def client(number):
        with http.InferenceServerClient(server) as own:
            return [ask(own, text)[0] for text in texts[number::CLIENTS]]

    begun = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for number, answers in enumerate(pool.map(client, range(CLIENTS))):
            assert answers == expected[number::CLIENTS]
    print(f"{TEXTS / (time.monotonic() - begun):.0f} answers/s")
    with http.InferenceServerClient(server) as own:
        assert ask(own, *texts[:64]) == expected[:64]


def test_a_text_that_is_too_long_fails_its_own_request(server):
    import tritonclient.http as http
    from tritonclient.utils import InferenceServerException

    with http.InferenceServerClient(server) as own:
        with pytest.raises(InferenceServerException, match="more than 1024 tokens"):
            ask(own, "5 May 2001 " * 500)
        assert ask(own, "5 May 2001") == ["2001-05-05"]

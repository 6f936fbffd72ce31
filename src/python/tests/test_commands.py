"""Training, export, verification, lint, and the program itself."""

import json

import numpy
import pytest
import s2s


def test_a_training_tells_its_epochs_and_leaves_a_run(config, tmp_path):
    events = []
    run = s2s.train(config, output=tmp_path / "run", set={"training.epochs": 3}, callback=events.append)
    assert run.path == str(tmp_path / "run")
    epochs = [event["metrics"]["epoch"] for event in events if event["event"] == "epoch"]
    assert epochs == [1, 2, 3] == [metrics["epoch"] for metrics in run.metrics]
    assert events[-1]["event"] == "finished"


def test_what_a_callback_raises_stops_a_training_that_can_go_on(config, tmp_path):
    def stop(event):
        if event["event"] == "epoch":
            raise KeyError("enough")

    output = tmp_path / "run"
    with pytest.raises(KeyError, match="enough"):
        s2s.train(config, output=output, callback=stop)
    assert len(s2s.Run(str(output)).metrics) == 1
    run = s2s.train(output, resume=True)
    whole = s2s.train(config, output=tmp_path / "whole")
    weights = [open(f"{one.path}/checkpoints/best.safetensors", "rb").read() for one in (run, whole)]
    assert weights[0] == weights[1], "a resumed training is the undisturbed one, bit for bit"


def test_an_export_is_a_bundle_that_verifies(run, attention, tmp_path):
    report = s2s.verify(attention, random=4, no_write=True)
    assert report.passed and len(report.checks) > 10
    small = run.export(tmp_path / "int8", dtype="int8", random=4, max_loss=1.0)
    assert len(small.graph("decoder")) < len(attention.graph("decoder"))
    assert small.manifest["name"] == "tiny"


def test_the_graphs_of_a_bundle_run_in_onnxruntime_on_its_ids(attention):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(attention.graph("encoder"))
    ids = attention.encode("5 may 2001")
    assert len(ids) == 10 and max(ids) < attention.source_vocabulary
    name = session.get_inputs()[0].name
    outputs = session.run(None, {name: numpy.array([ids], dtype=numpy.int64)})
    assert all(numpy.isfinite(one).all() for one in outputs)
    with pytest.raises(KeyError, match="encoder"):
        attention.graph("nothing")


def test_a_damaged_bundle_is_named(attention, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(attention.path, copy)
    with open(copy / "decoder.onnx", "r+b") as file:
        file.seek(100)
        file.write(b"\0\0\0\0\0\0\0\0")
    with pytest.raises(s2s.BundleError, match="decoder.onnx"):
        s2s.Bundle(copy)


def test_errors_of_commands_name_the_file_and_the_key(config, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(config, indent=1).replace('"hidden"', '"hiden"'))
    with pytest.raises(s2s.ConfigError, match="unknown key") as found:
        s2s.train(file)
    assert (found.value.file, found.value.key) == (str(file), "model.hiden")
    assert '"hiden"' in file.read_text().splitlines()[found.value.line - 1]
    with pytest.raises(s2s.UsageError, match="--dtyp"):
        s2s.export(tmp_path, dtyp="int8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(s2s.UsageError, match="run folder"):
        s2s.export(tmp_path / "empty")


def test_lint_says_what_runtimes_do_with_a_graph(attention):
    report = s2s.lint(f"{attention.path}/encoder.onnx")
    assert report["nodes"] > 5 and isinstance(report["findings"], list)


def test_the_program_comes_with_the_package(program, dates):
    assert program("--version").stdout.strip() == f"s2s {s2s.__version__}"
    assert program("translate", dates, "April 3, 1999").stdout == "1999-04-03\n"
    bad = program("translate", dates, "--num-beams", "0", "x")
    assert bad.returncode == 3 and "num_beams" in bad.stderr
    engines = json.loads(program("doctor", "--json").stdout)
    assert "ort" in json.dumps(engines)

"""Unchanged clients of the protocols that `s2s serve-local` speaks, against a running server.

    clients.py NAME URL EXPECTED.json [KEY]

EXPECTED.json holds {"model": name, "texts": {text: translation}}. tests/clients.rs starts the server and runs this.
"""

import json
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

import numpy as np


def libretranslate(url, expected, key):
    from libretranslatepy import LibreTranslateAPI

    client = LibreTranslateAPI(url + "/", api_key=key or None)
    for text, translation in expected["texts"].items():
        assert client.translate(text, "en", "fr") == translation, text
        assert client.translate(f"{text}\n\n{text}", "en", "fr") == f"{translation}\n\n{translation}", text
    assert isinstance(client.languages(), list) and client.detect("x")[0]["confidence"] == 100.0


def languages(url, expected, key):
    from libretranslatepy import LibreTranslateAPI

    client = LibreTranslateAPI(url + "/", api_key=key or None)
    for target, texts in expected["pairs"].items():
        for text, translation in texts.items():
            assert client.translate(text, "en", target) == translation, (text, target)
    listed = {language["code"]: language["targets"] for language in client.languages()}
    assert len(listed) == 100 and {"en", "fr", "zh"} <= set(listed["en"]), listed


def deep_translator(url, expected, key):
    from deep_translator import LibreTranslator

    client = LibreTranslator(source="en", target="fr", custom_url=url + "/", api_key=key or "none")
    for text, translation in expected["texts"].items():
        # Its own rule: digits alone are given back without asking the server.
        if not text.isdigit():
            assert client.translate(text) == translation, text


def deepl(url, expected, key):
    import deepl as package

    client = package.DeepLClient(key or "none", server_url=url)
    texts = list(expected["texts"])
    results = client.translate_text(texts, target_lang="FR", source_lang="EN")
    assert [result.text for result in results] == list(expected["texts"].values())
    assert [result.billed_characters for result in results] == [len(text) for text in texts]
    assert client.translate_text(texts[0], target_lang="FR").text == expected["texts"][texts[0]]
    assert client.get_source_languages() and client.get_target_languages()
    first, second = texts[:2]
    lines = client.translate_text(f"{first}\n\n{second}", target_lang="FR", split_sentences="0").text
    assert lines == f"{expected['texts'][first]}\n\n{expected['texts'][second]}", lines
    tagged = client.translate_text([f"<b>{first}</b><x>{second}</x>"], target_lang="FR", tag_handling="xml", ignore_tags=["x"])
    assert tagged[0].text == f"<b>{escape(expected['texts'][first])}</b><x>{second}</x>", tagged[0].text
    usage = client.get_usage()
    assert usage.character.count > len(first) and not usage.any_limit_reached
    try:
        client.translate_text("x" * 5000, target_lang="FR")
    except package.DeepLException as error:
        assert "tokens" in str(error), error
    else:
        raise AssertionError("a text beyond the limit was translated")


def triton(url, expected, key):
    import tritonclient.http as package

    name = expected["model"]
    headers = {"Authorization": f"Bearer {key}"} if key else None
    client = package.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(name, headers=headers)
    assert client.get_server_metadata()["name"] == "s2s"
    index = [model["name"] for model in client.get_model_repository_index(headers=headers)]
    assert index == [name, f"{name}.encoder", f"{name}.decoder", f"{name}.training"], index
    assert client.get_model_metadata(name, headers=headers)["inputs"][0]["datatype"] == "BYTES"
    assert client.get_model_config(name, headers=headers)["input"][0]["data_type"] == "TYPE_STRING"
    texts = np.array([text.encode() for text in expected["texts"]], dtype=object)
    translations = list(expected["texts"].values())
    for binary in (True, False):
        tensor = package.InferInput("text_input", [len(texts)], "BYTES")
        tensor.set_data_from_numpy(texts, binary_data=binary)
        outputs = [package.InferRequestedOutput("text_output", binary_data=binary), package.InferRequestedOutput("score")]
        for wanted in (None, outputs):
            for compression in (None, "gzip"):
                result = client.infer(name, [tensor], outputs=wanted, request_compression_algorithm=compression, headers=headers, request_id="r")
                given = [text.decode() if isinstance(text, bytes) else text for text in result.as_numpy("text_output")]
                assert given == translations and result.get_response()["id"] == "r", given
                assert result.as_numpy("score").dtype == np.float32
    beams = client.infer(name, [tensor], parameters={"num_beams": 3}, headers=headers)
    assert beams.as_numpy("text_output").shape == (len(texts),)
    graphs(package, client, name, headers)
    statistics = client.get_inference_statistics(name, headers=headers)["model_stats"][0]
    assert statistics["inference_count"] >= 8 * len(texts) and statistics["inference_stats"]["success"]["count"] >= 8 * len(texts)
    try:
        client.infer(name, [package.InferInput("nothing", [1], "BYTES")], headers=headers)
    except package.InferenceServerException:
        pass
    else:
        raise AssertionError("an input that the model does not have was taken")


def graphs(package, client, name, headers):
    """The encoder, its states into one decoder step, and the training graph, with tensors as bytes."""

    def call(graph, inputs):
        tensors = []
        for tensor, value in inputs.items():
            tensors.append(package.InferInput(tensor, list(value.shape), "INT64" if value.dtype == np.int64 else "FP32"))
            tensors[-1].set_data_from_numpy(value)
        result = client.infer(f"{name}.{graph}", tensors, headers=headers)
        described = client.get_model_metadata(f"{name}.{graph}", headers=headers)
        assert {tensor["name"] for tensor in described["inputs"]} == set(inputs)
        return {output["name"]: result.as_numpy(output["name"]) for output in described["outputs"]}

    # Two sources of unequal length, left-padded.
    states = call("encoder", {"encoder_input": np.array([[4, 5, 6], [0, 4, 5]], np.int64)})
    alone = call("encoder", {"encoder_input": np.array([[4, 5]], np.int64)})
    for state, value in states.items():
        assert np.allclose(value[1], alone[state][0], atol=1e-5), state
    step = call("decoder", {"decoder_input": np.array([[1], [1]], np.int64), **states})
    training = call(
        "training",
        {
            "encoder_input": np.array([[4, 5, 6], [0, 4, 5]], np.int64),
            "decoder_input": np.array([[1, 4], [1, 5]], np.int64),
            "decoder_target": np.array([[4, 2], [5, 2]], np.int64),
        },
    )
    assert np.allclose(step["decoder_output"][:, 0], training["decoder_output"][:, 0], atol=1e-4)
    assert training["loss"].shape == () or training["loss"].size == 1


def kserve(url, expected, key):
    import asyncio

    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    async def talk():
        client = InferenceRESTClient(RESTConfig(protocol="v2", retries=1, timeout=60))
        headers = {"Authorization": f"Bearer {key}"} if key else None
        name = expected["model"]
        assert await client.is_server_live(url) and await client.is_server_ready(url)
        assert await client.is_model_ready(url, name, headers=headers)
        texts = list(expected["texts"])
        for binary in (False, True):
            tensor = InferInput("text_input", [len(texts)], "BYTES")
            tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=object), binary_data=binary)
            request = InferRequest(model_name=name, infer_inputs=[tensor], request_id="r")
            answer = await client.infer(url, request, model_name=name, headers=headers)
            given = [text.decode() if isinstance(text, bytes) else text for text in answer.outputs[0].as_numpy().ravel().tolist()]
            assert given == list(expected["texts"].values()), given
        await client.close()

    asyncio.run(talk())


def schemathesis(url, expected, key):
    config = f"""
[parameters]
"path.model" = "{expected["model"]}"

[checks.positive_data_acceptance]
# 422 is valid JSON that cannot be done: a text that is too long, options that exclude each other.
expected-statuses = ["2xx", "401", "403", "404", "422", "429"]

[[operations]]
# What languages there are is the server's matter: 400 names them.
include-path-regex = "/translate(_file)?$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "422", "429"]

[[operations]]
# Which tensors a model takes depends on the model: 400 names them.
include-path-regex = "/infer$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "422", "429"]
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "schemathesis.toml").write_text(config)
        command = [Path(sys.executable).with_name("schemathesis"), "--no-color", "--config-file", f"{folder}/schemathesis.toml", "run"]
        command += [url + "/openapi.json", "--max-examples", "12", "--seed", "1", "--phases", "examples,coverage,fuzzing"]
        if key:
            command += ["--header", f"Authorization: Bearer {key}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
        print(done.stdout[-1500:])


CLIENTS = [libretranslate, languages, deep_translator, deepl, triton, kserve, schemathesis]

if __name__ == "__main__":
    chosen, address, file = sys.argv[1:4]
    given_key = sys.argv[4] if len(sys.argv) > 4 else ""
    {client.__name__: client for client in CLIENTS}[chosen](address, json.loads(Path(file).read_text()), given_key)

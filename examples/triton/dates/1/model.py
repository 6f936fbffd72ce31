"""A bundle of s2s as a model of Triton's Python backend: text in, text out."""

import json

import numpy
import s2s
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Translates the texts of all requests that Triton hands over together as one batch."""

    def initialize(self, args):
        parameters = {name: value["string_value"] for name, value in json.loads(args["model_config"])["parameters"].items()}
        self.translator = s2s.Translator.open(parameters["bundle"])
        self.decoding = json.loads(parameters.get("decoding", "{}"))

    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "text").as_numpy() for request in requests]
        texts = [text.decode("utf-8", "replace") for one in inputs for text in one.reshape(-1)]
        found = iter(self.translator.translate(texts, errors="return", **self.decoding))
        responses = []
        for one in inputs:
            own = [next(found) for _ in range(one.size)]
            error = next((text for text in own if isinstance(text, Exception)), None)
            if error is not None:
                # A text that cannot be translated fails its own request alone.
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
            else:
                output = numpy.array([text.encode() for text in own], dtype=object).reshape(one.shape)
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("translation", output)]))
        return responses

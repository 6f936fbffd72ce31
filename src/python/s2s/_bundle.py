"""What a bundle says about itself."""

from __future__ import annotations

import json
import os
from functools import cached_property
from typing import Any

from . import _native


class Bundle:
    """An exported model: graphs, vocabularies and the manifest that says how they belong together."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens a bundle, or a folder of Optimum as one, and checks that its files belong together.

        :raises BundleError: if it is none, or a damaged one.
        """
        self.path = os.path.abspath(os.fspath(path))
        self._native = _native.Bundle(path)

    def __repr__(self) -> str:
        return f"Bundle({self.path!r})"

    def __reduce__(self) -> tuple:
        return (Bundle, (self.path,))

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The manifest, as `s2s.yaml` has it."""
        return json.loads(self._native.manifest())

    @property
    def decoding(self) -> dict[str, Any]:
        """The decoding options that the bundle brings."""
        return self.manifest.get("decoding", {})

    @property
    def graphs(self) -> dict[str, str]:
        """The file name of each graph by its role: `encoder`, `decoder`, `training` and others."""
        return {role: graph["file"] for role, graph in self.manifest["graphs"].items()}

    def graph(self, role: str) -> bytes:
        """The ONNX bytes of a graph, as other runtimes load them."""
        graphs = self.graphs
        if role not in graphs:
            raise KeyError(f"no graph {role!r}; there are {', '.join(graphs)}")
        return self._native.file(graphs[role])

    def file(self, name: str) -> bytes | None:
        """A file of the bundle, or None."""
        return self._native.file(name)

    def encode(self, text: str) -> list[int]:
        """The ids of a source text, as the encoder reads them."""
        return self._native.encode("source", text)

    def encode_target(self, text: str) -> list[int]:
        """The ids of a target text, without START and END."""
        return self._native.encode("target", text)

    @property
    def source_vocabulary(self) -> int:
        """Source symbols, special ones counted."""
        return self._native.size("source")

    @property
    def target_vocabulary(self) -> int:
        """Target symbols, special ones counted."""
        return self._native.size("target")

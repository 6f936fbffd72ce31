"""What the scripts of this folder do with their values: write them, or with --check compare them with the committed file."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(name: str, values: dict, **form) -> int:
    """Exit code 1 if the file differs; `form` goes to json.dumps."""
    path, text = HERE / name, json.dumps(values, ensure_ascii=False, **form) + "\n"
    if "--check" in sys.argv[1:]:
        same = path.read_text(encoding="utf-8") == text
        print(f"{path.name}: {'the same' if same else 'differs'}")
        return 0 if same else 1
    path.write_text(text, encoding="utf-8")
    return 0

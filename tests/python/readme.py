"""Runs the first Python block of README.md as a reader would, from the top of the project.

    python readme.py
"""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"

block = re.search(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
exec(compile(block.group(1), str(README), "exec"), {"__name__": "__main__"})

"""Writes docs/demo.svg: what the analysis prints of the demo sweep, cut to a few metrics.

make demo && .venv/bin/python docs/picture.py
"""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
WIDTH = 120
METRICS = ["test/*", "weights/fc1/*", "activations/fc1/*"]

command = [sys.executable, "-m", "creditlab.analysis", "multirun/demo", "--metrics", *METRICS]
environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=environment).stdout
console = Console(record=True, width=WIDTH, file=io.StringIO())
console.print(Text.from_ansi(printed.partition("Written")[0].strip()))
drawing = console.export_svg(title="creditlab-analyse multirun/demo", theme=MONOKAI)
drawing = re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.S).replace("Fira Code, monospace", "monospace")
(ROOT / "docs" / "demo.svg").write_text(drawing)  # with the reader's own fonts: nothing is fetched

"""However a program ends while it reads: soon, with its own exit status, and with no words but its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from range_server import Fault, serving

OPEN = {
    "stream": "dataset = load_latents(sys.argv[1], streaming=True)\nloader = dataset.loader(batch_size=2)\n",
    "loader": "dataset = load_latents(sys.argv[2])\nloader = dataset.loader(batch_size=2, prefetch=2)\n",
}
ENDS = {
    "an iterator that is left": ("rows = iter(loader)\nnext(rows)\n", 0),
    "a break": ("for batch in loader:\n    break\n", 0),
    "an error": ("for batch in loader:\n    sys.exit('own words')\n", 1),
    "a circle of references": ("holder = type('Holder', (), {})()\nholder.me, holder.rows = holder, iter(loader)\n", 0),
    "what outlives the program's modules": ("sys.rows = iter(loader)\nnext(sys.rows)\n", 0),
    "a collected iterator": ("rows = iter(loader)\nnext(rows)\ndel rows\ngc.collect()\n", 0),
    "a thread that goes on": (
        "def read():\n    for batch in loader:\n        time.sleep(0.01)\n"  # noqa: ISC004
        "threading.Thread(target=read, daemon=True).start()\ntime.sleep(0.2)\n",
        0,
    ),
    "an interrupt": ("rows = iter(loader)\nnext(rows)\nsignal.raise_signal(signal.SIGINT)\n", -2),
}
if hasattr(sys, "getwindowsversion"):
    del ENDS["an interrupt"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", OPEN)
def test_a_program_that_ends_while_it_reads_ends_quietly(drawn: Path, kind: str, end: str) -> None:
    code, status = ENDS[end]
    begin = "import gc, signal, sys, threading, time\nfrom latentstore import load_latents\n"
    with serving(drawn) as server:
        server.faults = lambda _, __: Fault(wait=0.05)  # so that requests are under way at the end
        command = [sys.executable, "-c", begin + OPEN[kind] + code, server.url, str(drawn)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    own = {"an error": "own words\n"}.get(end, "")
    assert done.stderr == own or (end == "an interrupt" and done.stderr.endswith("KeyboardInterrupt\n")), done.stderr
    assert "Exception ignored" not in done.stderr

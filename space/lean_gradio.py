"""Gradio without the stubs for editors: at every start it parses each of its parts to write one beside it, half of its import.

Import this before anything that imports Gradio. It also spares a Space whose packages are read-only the attempt to write there,
and says in one sentence that a port is none, where Gradio ends in a traceback; the exit code is 2.

And it keeps NumPy, which Gradio imports, to one thread for each product of matrices: those of screening are small, and a second thread
only waits for the first (100 people at once took 9 seconds of CPU for what then took 3.7).
"""

import inspect
import os
import sys


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
port = os.environ.get("GRADIO_SERVER_PORT") or "7860"
if not port.isdecimal() or int(port) > 65_535:
    sys.stderr.write(f"GRADIO_SERVER_PORT is {port!r}: give it as a number up to 65535, such as 7860.\n")
    sys.exit(2)


found = inspect.getfile


def without_stubs(what) -> str:
    """Raise OSError for a part of Gradio: it takes that as a part that has no file, and writes no stub."""
    if isinstance(what, type) and what.__module__.startswith("gradio."):
        raise OSError(f"{what.__name__} needs no stub")
    return found(what)


inspect.getfile = without_stubs
try:
    import gradio  # noqa: F401
finally:
    inspect.getfile = found

"""Gradio without the stubs for editors: at every start it parses each of its parts to write one beside it, half of its import.

Import this before anything that imports Gradio. It also spares a Space whose packages are read-only the attempt to write there.
"""

import inspect


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

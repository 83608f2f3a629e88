"""The same corpus when datatrove shares out the cleaning: by its local executor, in processes of their own."""

from conftest import command
from test_build_dataset import build, small  # noqa: F401  (a fixture)


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_datatrove_prepares_what_the_plain_build_would(small, tmp_path):  # noqa: F811
    """One of two tasks finds nothing to do; the build that follows finds all of it done."""
    shared = ("--recipe", small / "small.yaml", "--local", small, "--output", tmp_path / "shared")
    command("data/on_datatrove.py", *shared, "--tasks", 2, "--workers", 2)
    (work,) = (tmp_path / ".shared-work").iterdir()
    assert [file.name for file in work.iterdir()] == ["counsel-chat-000000.arrow"]
    build(small, tmp_path / "plain")
    command("data/build_dataset.py", *shared)
    assert files(tmp_path / "shared") == files(tmp_path / "plain")


def test_a_source_that_is_missing_is_one_sentence(small, tmp_path):  # noqa: F811
    asked = ("--recipe", small / "small.yaml", "--local", tmp_path, "--output", tmp_path / "out")
    failed = command("data/on_datatrove.py", *asked, check=False)
    assert (failed.returncode, "counsel-chat is missing" in failed.stderr, "Traceback" in failed.stderr) == (
        2,
        True,
        False,
    )

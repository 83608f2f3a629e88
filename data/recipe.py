"""A recipe: which sources make up a corpus, where they come from and what may be done with them."""

import fnmatch
from pathlib import Path
from typing import NamedTuple

import yaml

from rows import BadInput
from tokens import MOST_TOKENS


RECIPES = Path(__file__).with_name("recipes")


TYPES = {
    "redistributable": bool,
    "invented": bool,
    "columns": dict,
    "hub_files": list,
    "files": list,
    "overrides": list,
}
IN_WORDS = {bool: "true or false", dict: "a mapping", list: "a list", int: "a whole number", str: "text in quotes"}


class Source(NamedTuple):
    """One source of a recipe; the fields are the keys that a recipe may use, with what holds when one is left out."""

    name: str
    reader: str
    kind: str
    license: str
    redistributable: bool
    about: str = ""  # for the card: what it is and where it comes from
    url: str = ""
    folder: str = ""  # beside the recipe's project, for sources that we ship
    hub: str = ""
    revision: str = "main"
    hub_files: tuple = ()
    kaggle: str = ""  # OWNER/NAME/versions/NUMBER
    local: str = ""
    files: tuple = ()
    publisher: str = ""
    invented: bool = False  # no real person is in it, so its names stay
    columns: dict = {}  # noqa: RUF012  (a NamedTuple's default; nobody writes to it)
    encoding: str = "utf-8"
    overrides: tuple = ()

    def for_file(self, name: str) -> "Source":
        """Return the source with the terms that hold for one file: a later override wins."""
        changes = {}
        for override in self.overrides:
            if fnmatch.fnmatchcase(name.lower(), override["files"].lower()):
                changes |= {key: value for key, value in override.items() if key != "files"}
        return self._replace(**changes)


class Recipe(NamedTuple):
    name: str
    path: Path
    base: str
    seed: int
    sources: list[Source]
    max_tokens: int = MOST_TOKENS


def load_recipe(name_or_path: str) -> Recipe:
    """Read `data/recipes/NAME.yaml` or a YAML file; an unknown key fails, since a typo would be ignored in silence."""
    path = Path(name_or_path) if name_or_path.endswith((".yaml", ".yml")) else RECIPES / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise BadInput(f"There is no recipe {name_or_path}: choose one of {known}, or give the path of a .yaml file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if isinstance(values, dict) and "extends" in values:
        return _extended(values, path)
    check_keys(values, {"base", "seed", "sources", "max_tokens"}, {"base", "seed", "sources"}, str(path))
    check_types(values, str(path), {"seed": int, "max_tokens": int, "sources": dict})
    sources = [source_of(name, entry, path) for name, entry in values["sources"].items()]
    return Recipe(path.stem, path, values["base"], values["seed"], sources, values.get("max_tokens", MOST_TOKENS))


def _extended(values: dict, path: Path) -> Recipe:
    """Another recipe with more sources; a source of the same name takes the place of the other's."""
    check_keys(values, {"extends", "sources"}, {"extends", "sources"}, str(path))
    check_types(values, str(path), {"sources": dict})
    parent = load_recipe(values["extends"])
    more = [source_of(name, entry, path) for name, entry in values["sources"].items()]
    names = {source.name for source in more}
    return parent._replace(
        name=path.stem, path=path, sources=[source for source in parent.sources if source.name not in names] + more
    )


def source_of(name: str, entry: object, path: Path) -> Source:
    needed = {key for key in Source._fields if key not in Source._field_defaults} - {"name"}
    check_keys(entry, set(Source._fields) - {"name"}, needed, f"source {name} of {path}")
    check_types(entry, f"source {name} of {path}")
    for override in entry.get("overrides", ()):
        check_types(override, f"an override in source {name} of {path}", {"files": str})
        allowed = {"files", "license", "redistributable", "publisher"}
        check_keys(override, allowed, {"files"}, f"an override in source {name} of {path}")
        if "/" in override["files"]:
            raise BadInput(f"An override in source {name} of {path} names a folder: only names of files are compared.")
    lists = {key: tuple(entry[key]) for key in ("hub_files", "files", "overrides") if key in entry}
    return Source(**{"name": name, **entry, **lists})


def check_types(entry: dict, where: str, types: dict[str, type] | None = None) -> None:
    """A recipe that says `invented: "false"` means no, and Python reads yes: nothing would be taken out of what people wrote."""
    for key, value in entry.items():
        wanted = {**TYPES, **(types or {})}.get(key, str)
        if not isinstance(value, wanted):
            raise BadInput(f"Key {key} in {where} must be {IN_WORDS[wanted]}, not {value!r}.")


def check_keys(values: object, allowed: set, needed: set, where: str) -> None:
    if not isinstance(values, dict):
        raise BadInput(f"The recipe is not a mapping of keys to values: {where}.")
    unknown, missing = sorted(set(values) - allowed), sorted(needed - set(values))
    if unknown:
        raise BadInput(f"Unknown key {unknown[0]} in {where}: known keys are {', '.join(sorted(allowed))}.")
    if missing:
        raise BadInput(f"Key {missing[0]} is missing in {where}.")

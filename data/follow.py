"""Follow one row of a build: from the place it was read at to its shard or to the reason why it was left out, or back.

python data/follow.py build/public "counselchat-data.csv:row 12"
python data/follow.py build/public 3f2a9c01d4e5b678          (an id of the corpus)
"""

import argparse
import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from rows import BadInput, run


def main(build: Path, wanted: str) -> None:
    entries = find(build, wanted)
    report = json.loads((build / "report.json").read_text(encoding="utf-8"))
    for entry in entries:
        print(
            f"{entry['source']}, {entry['where']}: {entry['fate']}{': ' + entry['reason'] if entry['reason'] else ''}"
        )
        for row in entry["ids"] or ():
            print(f"  {row} in {', '.join(files_of(report, entry['split'], row, build))}")


def find(build: Path, wanted: str) -> list[dict]:
    """Return the ledger's entries of a place or of an id; raise BadInput where there are none."""
    if not (build / "ledger.parquet").is_file():
        raise BadInput(f"{build} holds no build: build one with data/build_dataset.py first.")
    ledger = pq.read_table(build / "ledger.parquet")
    at_place = pc.equal(ledger["where"], wanted)
    if not pc.any(at_place).as_py():
        parents = pc.list_parent_indices(ledger["ids"]).combine_chunks()
        chosen = parents.filter(pc.equal(pc.list_flatten(ledger["ids"]).combine_chunks(), wanted))
        found = ledger.take(chosen)
    else:
        found = ledger.filter(at_place)
    if not len(found):
        raise BadInput(
            f"{wanted} is no place and no id in {build}: places look like train.txt:12, as in rejects.jsonl."
        )
    return found.to_pylist()


def files_of(report: dict, split: str, row: str, build: Path) -> list[str]:
    files = [file for config in report["configs"].values() for file in config[split]["files"]]
    return [
        file
        for file in files
        if pc.any(pc.equal(pq.read_table(build / "corpus" / file, columns=["id"])["id"], row)).as_py()
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="folder of the build")
    parser.add_argument("wanted", help="place as in rejects.jsonl (file:line), or id of a row")
    arguments = parser.parse_args()
    run(main, arguments.build, arguments.wanted)

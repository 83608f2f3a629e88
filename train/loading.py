"""Read one split of a conversation corpus: a folder of ours, or a Hub id."""

from datasets import Dataset, load_dataset


def load_conversations(name: str | None, config: str | None, split: str) -> Dataset:
    """Return the rows of one split, each with `messages`; raises ValueError with one sentence for a person.

    A folder and a Hub id are told apart by `load_dataset` itself: a folder that exists comes first.
    """
    if not name:
        raise ValueError("No corpus is named: give one with --dataset_name, or a recipe with --config.")
    try:
        rows = load_dataset(name, config, split=split)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"There is no corpus in {name}, or it has no config {config or 'default'} with a split {split}: "
            "build it with python data/build_dataset.py, or check the Hub id and the network."
        ) from error
    if "messages" not in rows.column_names:
        raise ValueError(f"{name} has no column messages; its columns are {', '.join(rows.column_names)}.")
    if not len(rows):
        raise ValueError(f"The {split} split of {name} is empty.")
    check_rows(rows, name)
    return rows


def check_rows(rows: Dataset, name: str) -> None:
    """Raise ValueError naming the first row whose roles do not alternate, or do not end with a reply."""
    for number, messages in enumerate(rows["messages"]):
        roles = [message["role"] for message in messages]
        turns = roles[1:] if roles[:1] == ["system"] else roles
        if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
            raise ValueError(
                f"Row {number} of {name} has the roles {', '.join(roles) or 'of nobody'}: "
                "user and assistant must take turns, the person first and a reply last."
            )

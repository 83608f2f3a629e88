"""How long a conversation is for the model that will read it."""

from rows import BadInput


def count_tokens(conversations: list[list[dict]], base: str) -> list[int]:
    """Count each conversation's tokens with the base's tokenizer and chat template, default system message included."""
    if not conversations:
        return []
    # Here, since it takes seconds that a build which is up to date does not need.
    from transformers import AutoTokenizer
    from transformers.utils import logging

    from base_model import BaseUnavailable, resolve

    logging.set_verbosity_error()  # "longer than the maximum": training cuts, this only counts
    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve(base))
    except (BaseUnavailable, OSError) as error:
        raise BadInput(f"The tokenizer of {base} could not be loaded: {str(error).splitlines()[0]}") from error
    rendered = tokenizer.apply_chat_template(conversations, tokenize=False)
    # The template has written every special token. One batch is several times faster than one call for each row.
    return [len(ids) for ids in tokenizer(rendered, add_special_tokens=False)["input_ids"]]

"""Whether a text may stand in a corpus, by the Space's own screening rules."""

import screening
from hits import RISK, read_hits


# For a card in a chat one of these is enough; for throwing a conversation away it takes another.
SIGNS = ("suicide/sign", "suicide/plan", "suicide/not-live", "overdose/now")


def reply_problem(text: str) -> str | None:
    """Return the kind of the first thing that a reply must not say, or None; what only may be wrong does not count."""
    return next((finding.kind for finding in screening.said_wrongly(text) if not finding.soft), None)


def needs_help(text: str) -> bool:
    """Tell whether the writer, or somebody they speak of, is in danger; a lone sign ("I have made my peace") is not enough."""
    found = [hit for hit in read_hits(text) if hit.level >= RISK]
    return len(found) > 1 or any(hit.rule not in SIGNS for hit in found)

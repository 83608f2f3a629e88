"""Curves by epoch on a few held-out prompts (the paper's figure 3): BLEU, ROUGE, coherence, distinct-n and others.

Beside the adapter: curves.jsonl (a line of numbers per epoch), samples.jsonl (the replies) and curves.png. Trackers get
the numbers as eval/curves/NAME. The replies are greedy and cut after 64 tokens and the prompts are few: curves say
where training goes, train/score.py says what an adapter is worth.
"""

import logging
import random
from itertools import islice
from pathlib import Path

from matplotlib.figure import Figure
from transformers import TrainerCallback

from arguments import require
from files import read_lines, write, write_lines
from metrics import SAMPLE, measure
from replies import answer
from sentence_vectors import VectorsUnavailable, load, sentence_vectors


PANELS = {
    "bleu": "BLEU (0 to 100)",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "coherence": "coherence",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    f"distinct_1_of_{SAMPLE}": f"distinct-1 of {SAMPLE} words",
    f"distinct_2_of_{SAMPLE}": f"distinct-2 of {SAMPLE} word pairs",
    "words": "words per reply",
    "replies_asking": "replies with a question",
    "repetition": "repeated 4-grams",
}

log = logging.getLogger(__name__)


class Curves(TrainerCallback):
    """Answer `count` held-out prompts before training and after each epoch, by the model as it is then.

    Add it with `trainer.add_callback(Curves(trainer, conversations, count))`; the main process does the work while the
    others wait. A prompt is all that comes before a conversation's last reply, which is the reference. Training is the
    same to the bit with and without it. Raises ValueError when no prompt fits or the model is in parts.
    """

    def __init__(self, trainer, conversations, count: int, max_new_tokens: int = 64):
        require_whole(trainer, "curves")
        self.trainer, self.max_new_tokens = trainer, max_new_tokens
        chosen = choose(trainer.processing_class, conversations, count, trainer.args)
        self.prompts = [talk[:-1] for talk in chosen]
        self.references = [talk[-1]["content"] for talk in chosen]
        self.files = {name: Path(trainer.args.output_dir, f"{name}.jsonl") for name in ("curves", "samples")}

    def on_train_begin(self, args, state, control, **_):
        if state.is_world_process_zero:
            self.vectors = vectors_or_none()
            self.curves, self.samples = map(read_lines, self.files.values())
            if state.global_step == 0:
                self._measure(state, control)

    def on_epoch_end(self, args, state, control, **_):
        # A run that stops before its last step has not ended its epoch: its resumption will.
        cut_short = control.should_training_stop and state.global_step < state.max_steps
        if state.is_world_process_zero and not cut_short:
            self._measure(state, control)

    def _measure(self, state, control):
        model, was_training = self.trainer.model, self.trainer.model.training
        model.eval()
        replies = answer(model, self.trainer.processing_class, self.prompts, self.max_new_tokens)
        values = measure(replies, self.references, self.vectors)
        # Still in evaluation mode: otherwise TRL adds its pending training metrics to these, and forgets them.
        log_beside(self.trainer, control, "curves", values)
        model.train(was_training)
        self._write(now(state), replies, values)

    def _write(self, when, replies, values):
        talks = zip(self.prompts, replies, self.references, strict=True)
        rows = [
            {**when, "prompt": prompt[-1]["content"], "reply": reply, "reference": reference}
            for prompt, reply, reference in talks
        ]
        self.curves = [*before(self.curves, when["step"]), {**when, "replies": len(replies), **values}]
        self.samples = [*before(self.samples, when["step"]), *rows]
        write_lines(self.files["curves"], self.curves)
        write_lines(self.files["samples"], self.samples)
        draw(self.curves, self.files["curves"].with_suffix(".png"))


def choose(tokenizer, conversations, count: int, training) -> list[list[dict]]:
    """Return at most `count` conversations, by the run's seed, each ending with the last reply that `cut` leaves."""
    order = random.Random(training.seed).sample(range(len(conversations)), len(conversations))
    talks = (cut(tokenizer, conversations[index], training.max_length) for index in order)
    chosen = list(islice(filter(None, talks), count))
    require(chosen, f"No held-out prompt fits into max_length {training.max_length}: raise it, or set curves: 0.")
    return chosen


def cut(tokenizer, talk: list[dict], max_length: int | None) -> list[dict] | None:
    """Drop last turns until what comes before the last reply has at most `max_length` tokens, as rows in training."""
    for end in range(len(talk) - 1, 0, -2):
        prompt = tokenizer.apply_chat_template(talk[:end], add_generation_prompt=True)["input_ids"]
        if max_length is None or len(prompt) <= max_length:
            return talk[: end + 1]
    return None


def require_whole(trainer, name: str) -> None:
    require(
        not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled),
        f"{name}: one process writes the replies, which a model in parts cannot: set {name}: 0 with FSDP or DeepSpeed.",
    )


def now(state) -> dict:
    return {"epoch": round(state.epoch or 0.0, 4), "step": state.global_step}


def log_beside(trainer, control, group: str, values: dict[str, float | None]) -> None:
    """Give trackers held-out numbers as eval/GROUP/NAME, and leave the training loss due if it was."""
    wanted = control.should_log  # any logging takes that mark away
    # Trackers file every name without eval_ under train/.
    trainer.log({f"eval_{group}/{name}": value for name, value in values.items() if value is not None})
    control.should_log = wanted


def vectors_or_none():
    try:
        load()
    except VectorsUnavailable as problem:
        log.warning("Curves without coherence. %s", problem)
        return None
    return sentence_vectors


def before(records: list[dict], step: int) -> list[dict]:
    """Leave out what another run, or this one before it was cut off, wrote about this step or a later one."""
    return [record for record in records if record["step"] < step]


def draw(curves: list[dict], file: Path) -> None:
    """Draw a panel for each number that has a value, over epochs; y begins at 0."""
    names = [name for name in PANELS if any(record.get(name) is not None for record in curves)]
    figure = Figure(figsize=(12, 8), layout="constrained")
    for number, name in enumerate(names, 1):
        known = [record for record in curves if record.get(name) is not None]
        epochs, values = [record["epoch"] for record in known], [record[name] for record in known]
        panel = figure.add_subplot(3, 4, number, title=PANELS[name], xlabel="epoch")
        panel.plot(epochs, values, marker="o", markersize=4)
        panel.set_ylim(bottom=min(0, *values))  # a few prompts' noise must not fill the panel
        panel.grid(alpha=0.3)
    figure.suptitle(f"{curves[-1]['replies']} held-out prompts, greedy replies")
    write(file, lambda part: figure.savefig(part, format="png", dpi=100))

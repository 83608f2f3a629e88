"""What watches a run: Ctrl-C."""

import signal

from transformers import TrainerCallback


class StopOnCtrlC(TrainerCallback):
    """Finish the step, leave a checkpoint and stop; a second Ctrl-C ends the process at once."""

    def __init__(self):
        self.stopped = False
        signal.signal(signal.SIGINT, self._stop)

    def _stop(self, *_):
        self.stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_step_end(self, args, state, control, **_):
        control.should_save |= self.stopped
        control.should_training_stop |= self.stopped


def watchers(script, tokenizer, held_out, training) -> list[TrainerCallback]:
    """Return the callbacks that the recipe asks for."""
    return []

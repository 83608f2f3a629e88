"""What watches a run: Ctrl-C, and scenarios answered at each evaluation."""

import random
import signal
from pathlib import Path

from transformers import TrainerCallback

from checks import check, load_scenarios, pass_rates
from curves import before, log_beside, now, require_whole
from files import read_lines, write_lines
from replies import answer
from results import behaviours


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


class ScenarioCheck(TrainerCallback):
    """Answer `count` scenarios, the same ones by the run's seed, at each evaluation and check the replies by code.

    Beside the adapter: scenario_rates.jsonl (share passed by behaviour) and scenario_replies.jsonl. Trackers get the
    shares as eval/scenarios/NAME. The model answers alone here, without the Space's screening and cards.
    """

    def __init__(self, trainer, count: int, max_new_tokens: int = 96):
        require_whole(trainer, "scenarios")
        self.trainer, self.max_new_tokens = trainer, max_new_tokens
        self.scenarios = random.Random(trainer.args.seed).sample(load_scenarios(), count)
        self.files = [Path(trainer.args.output_dir, f"scenario_{name}.jsonl") for name in ("rates", "replies")]

    def on_evaluate(self, args, state, control, **_):
        if not state.is_world_process_zero:
            return
        prompts = [scenario["turns"] for scenario in self.scenarios]
        replies = answer(self.trainer.model, self.trainer.processing_class, prompts, self.max_new_tokens)
        results = [check(scenario, reply) for scenario, reply in zip(self.scenarios, replies, strict=True)]
        when, rates = (
            now(state),
            pass_rates(
                [
                    {"safe": one["safe"], **behaviours(scenario, one)}
                    for scenario, one in zip(self.scenarios, results, strict=True)
                ]
            ),
        )
        log_beside(self.trainer, control, "scenarios", rates)
        rows = [
            {**when, "scenario": scenario["id"], "reply": reply, "failed": [n for n, ok in result.items() if not ok]}
            for scenario, reply, result in zip(self.scenarios, replies, results, strict=True)
        ]
        for file, records in zip(self.files, ([{**when, **rates}], rows), strict=True):
            write_lines(file, [*before(read_lines(file), state.global_step), *records])

"""Share the cleaning of a corpus among many machines with datatrove; the build then only decides and writes.

    python data/on_datatrove.py --recipe public --local DIR --output build/public --tasks 100
    python data/on_datatrove.py ... --slurm PARTITION --time 4:00:00
    python data/build_dataset.py --recipe public --local DIR --output build/public

Each task prepares its share of the batches into the folder where the build looks for what is done, so the folder of OUTPUT must
be one that all machines see. Nothing is decided here: the corpus is that of the plain build, byte for byte. A task that
failed or was killed is simply run again.
"""

import argparse
from pathlib import Path

from build_dataset import arguments, plan, read_all
from rows import run
from stage import prepare_into


def share(options: argparse.Namespace, rank: int, world_size: int) -> None:
    """Prepare every `world_size`-th batch, from the one numbered `rank`."""
    recipe, places, failed, settings, _, work = plan(options)
    work.mkdir(parents=True, exist_ok=True)
    for number, batch in enumerate(read_all(recipe, places, failed, options)):
        if number % world_size == rank:
            prepare_into(work, batch, settings)


def main(options: argparse.Namespace) -> None:
    from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
    from datatrove.pipeline.base import PipelineStep

    folder = str(Path(__file__).resolve().parent)

    class Share(PipelineStep):
        """One task: datatrove gives its number and how many there are. A Slurm job knows nothing but what stands in here."""

        name = "Prepare"

        def run(self, data=None, rank: int = 0, world_size: int = 1):
            import sys

            sys.path.insert(0, folder)
            from on_datatrove import share

            share(options, rank, world_size)

    plan(options)  # what is wrong with the recipe or its sources is said here, once
    logs = str(options.output.parent / f".{options.output.name}-datatrove")
    common = {"pipeline": [Share()], "tasks": options.tasks, "logging_dir": logs, "skip_completed": False}
    if options.slurm:
        SlurmPipelineExecutor(**common, job_name="theragen", partition=options.slurm, time=options.time).run()
    else:
        LocalPipelineExecutor(**common, workers=options.workers).run()


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=10, help="shares of the work (default: 10)")
    parser.add_argument("--slurm", metavar="PARTITION", help="run as jobs of Slurm rather than on this machine")
    parser.add_argument("--time", default="4:00:00", help="of a Slurm job at most")
    run(main, parser.parse_args(), extra="scale")

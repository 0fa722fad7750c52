"""A run over many slides: outcomes as they come, `status.csv` kept up, and the tables over all at its end."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nsl.cohort.cluster import cluster_of, outcomes_on
from nsl.cohort.layout import FAILED, NOT_RUN, SLIDES
from nsl.cohort.slide_list import ListedSlide
from nsl.cohort.slide_run import RunSettings, SlideOutcome, outcome_of, predict_slide
from nsl.cohort.tables import write_cohort, write_status
from nsl.system.disk import PART
from nsl.system.progress import SILENT, Progress
from nsl.weights.weights import Weights

# Between two writings of a table that has a row for each of thousands of slides.
_STATUS_SECONDS = 2.0


def run_cohort(
    slides: Sequence[ListedSlide],
    settings: RunSettings,
    weights: Weights,
    out: Path,
    *,
    workers: int = 0,
    scheduler: str | None = None,
    progress: Progress = SILENT,
    told: Callable[[SlideOutcome], None] = lambda outcome: None,
) -> list[SlideOutcome]:
    """Predict all slides and write the tables over them; what an earlier run has done is not done again.

    workers : processes of this computer that share the slides; 0 for one slide after another in this one.
    scheduler : the address of a Dask cluster to run on instead.
    progress : receives slides done and in all.
    told : called with each outcome as it comes.

    Returns the outcomes, in the order of the slides. Whatever ends the run before, Ctrl-C or a full disk, leaves the
    results of the slides that are done, and `status.csv` says which.

    Raises NslError: `out` cannot be written, or there is no such cluster.
    """
    outcomes = {slide.name: SlideOutcome(slide, NOT_RUN) for slide in slides}
    write_status(list(outcomes.values()), out)
    written = time.monotonic()
    try:
        with _coming(slides, settings, weights, out / SLIDES, workers, scheduler) as coming:
            progress.report(0, len(slides), "slides")
            for done, outcome in enumerate(coming, start=1):
                outcomes[outcome.slide.name] = outcome
                told(outcome)
                progress.report(done, len(slides), "slides")
                if time.monotonic() - written > _STATUS_SECONDS:
                    write_status(list(outcomes.values()), out)
                    written = time.monotonic()
    finally:
        write_status(list(outcomes.values()), out)
    write_cohort(list(outcomes.values()), weights, settings.signatures, out)
    return list(outcomes.values())


@contextlib.contextmanager
def _coming(
    slides: Sequence[ListedSlide],
    settings: RunSettings,
    weights: Weights,
    folder: Path,
    workers: int,
    scheduler: str | None,
) -> Iterator[Iterator[SlideOutcome]]:
    if not (workers or scheduler):
        yield _one_after_another(slides, settings, weights, folder)
        return
    try:
        with (
            cluster_of(workers, scheduler) as client,
            contextlib.closing(outcomes_on(client, slides, settings, folder)) as coming,
        ):
            yield coming
    finally:
        if not scheduler:  # of workers that are no more; those of a cluster that was joined go on
            for part in folder.glob(f"*{PART}"):
                part.unlink(missing_ok=True)


def _one_after_another(
    slides: Sequence[ListedSlide], settings: RunSettings, weights: Weights, folder: Path
) -> Iterator[SlideOutcome]:
    for slide in slides:
        yield outcome_of(slide, functools.partial(predict_slide, slide, settings, weights, folder))


def exit_status(outcomes: Sequence[SlideOutcome]) -> int:
    """0 where no slide failed, 2 where all did, 1 where some did."""
    failed = sum(one.status == FAILED for one in outcomes)
    return 0 if not failed else 1 if failed < len(outcomes) else 2

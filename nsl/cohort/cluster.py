"""Slides shared out to the workers of a Dask cluster: one of this computer, or one that is joined.

Dask comes with `requirements-cohort.txt`, and is imported only where it is used. Workers see slides and results under
the same paths as whoever started the run.
"""

import contextlib
import logging
import os
import signal
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from nsl import __version__
from nsl.cohort.layout import FAILED
from nsl.cohort.slide_list import ListedSlide
from nsl.cohort.slide_run import RunSettings, SlideOutcome, failure, predict_task
from nsl.errors import NslError, in_a_line
from nsl.system.parallel import VARIABLE, cores

_INSTALL = "pip install -r requirements-cohort.txt"
# Of a slide that its worker was lost with: once more among the others, and then alone, for another's fault may end a
# worker that has just been given this one.
_LOSSES = 1
_CONNECT_SECONDS, _CLOSE_SECONDS, _RESTART_SECONDS = 20, 30, 600


@contextlib.contextmanager
def cluster_of(workers: int, scheduler: str | None) -> Iterator:
    """A Dask client of `workers` processes of this computer, which share out its cores, or of a scheduler's address.

    Raises NslError: Dask is not installed, or the scheduler does not answer, or has another version of NSL.
    """
    try:
        import dask
        from distributed import Client, LocalCluster, WorkerPlugin
    except ImportError:
        raise NslError(f"this needs Dask, which is not installed; {_INSTALL}") from None

    class OnlyOursIsInterrupted(WorkerPlugin):
        """Ctrl-C reaches every process of a terminal; workers end when the run does."""

        def setup(self, worker) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    if scheduler:
        try:
            client = Client(scheduler, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError, TimeoutError):
            raise NslError(f"no Dask scheduler answers at {scheduler}; check the address (tcp://host:8786)") from None
        with client:
            _require_same_version(client, scheduler)
            yield client
        return
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    threads = {VARIABLE: str(max(cores() // workers, 1))}
    settings = {
        "distributed.scheduler.allowed-failures": _LOSSES,
        # By itself Dask gives up a worker that has not started anew in 15 seconds, and then waits for it for ever.
        "distributed.deploy.lost-worker-timeout": _RESTART_SECONDS,
    }
    with dask.config.set(settings):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
            env=os.environ | threads,
        )
        try:
            with Client(cluster) as client:
                client.register_plugin(OnlyOursIsInterrupted())
                yield client
        finally:
            # A worker that is still being started anew ends with this process, if not before.
            with contextlib.suppress(TimeoutError):
                cluster.close(timeout=_CLOSE_SECONDS)


def _version() -> str:
    return __version__


def _require_same_version(client, scheduler: str) -> None:
    """NslError where the scheduler, which unpacks what is sent to workers, has no NSL or another one."""
    try:
        theirs = f"NSL {client.run_on_scheduler(_version)}"
    except Exception as error:  # whatever its Python makes of a module that it lacks
        theirs = f"no NSL that can be used ({in_a_line(error)})"
    if theirs != f"NSL {__version__}":
        raise NslError(
            f"the scheduler at {scheduler} has {theirs}, and here is NSL {__version__}; install the same there and for "
            "its workers, or start them with PYTHONPATH naming this checkout"
        )


def outcomes_on(client, slides: Sequence[ListedSlide], settings: RunSettings, folder: Path) -> Iterator[SlideOutcome]:
    """The outcome of each slide as it comes, whichever worker it ran on.

    A slide whose worker is lost runs on another. One that was lost with several workers runs once more when all others
    are done, and nothing beside it: where its worker is lost again, it has failed.
    """
    given = {"settings": settings, "folder": str(folder), "run_id": uuid4().hex}
    suspects = yield from _as_they_come(client, slides, given)
    for slide in suspects:
        if (yield from _as_they_come(client, [slide], given)):
            yield SlideOutcome(
                slide,
                FAILED,
                "the worker that ran it was lost each time, as when memory runs out; run it on a larger computer, or "
                "ask for fewer genes",
            )


def _as_they_come(
    client, slides: Sequence[ListedSlide], given: dict
) -> Generator[SlideOutcome, None, list[ListedSlide]]:
    """Yield outcomes; return the slides that were lost with their workers."""
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    lost = []
    futures = client.map(predict_task, slides, pure=False, **given)
    slide_of = {future.key: slide for future, slide in zip(futures, slides, strict=True)}
    coming = as_completed(futures)
    del futures  # Dask keeps what somebody holds
    try:
        for future in coming:
            slide = slide_of.pop(future.key)
            try:
                outcome = future.result()
            except KilledWorker:  # also of a slide that was done, where its worker was lost before it said so
                lost.append(slide)
                continue
            except Exception as error:
                outcome = failure(slide, error)
            future.release()
            yield outcome
    finally:
        client.cancel(list(coming.futures), force=True)
    return lost

"""Progress whose reports a test reads afterwards."""

from nsl.system.progress import Progress


class Recording(Progress):
    """Keeps every report as (done, total, stage), and cancels at a report of that number if one is given."""

    def __init__(self, cancel_at: int | None = None):
        self.reports: list[tuple[int, int, str]] = []
        self._cancel_at = cancel_at

    def report(self, done: int, total: int, stage: str = "") -> None:
        self.reports.append((done, total, stage))

    @property
    def cancelled(self) -> bool:
        return self._cancel_at is not None and len(self.reports) >= self._cancel_at

"""How far long work has come, and whether it is to go on."""

from nsl.errors import Cancelled


class Progress:
    """Watches long work. This one shows nothing and lets the work go on; subclasses show it, or may cancel it."""

    def report(self, done: int, total: int, stage: str = "") -> None:
        """Note that so many parts of the work are done.

        done, total : parts of the stage in hand.
        stage : what is being done, in words; nothing where the work has one stage.

        Whatever a subclass raises here ends the work.
        """

    @property
    def cancelled(self) -> bool:
        """Whether the work is to end. Work with a partial result returns it then."""
        return False

    def check(self, done: int, total: int, stage: str = "") -> None:
        """Report, for work without a partial result; Cancelled where it is to end."""
        self.report(done, total, stage)
        if self.cancelled:
            raise Cancelled("the run was cancelled; run again")


SILENT = Progress()
"""Shows nothing and never cancels."""

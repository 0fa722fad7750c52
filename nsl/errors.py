"""What can go wrong with a user's input. A message is one sentence: what, the value seen, the remedy."""

from collections.abc import Iterable, Sequence


class NslError(Exception):
    """Base of every error a user can mend; the command line exits with 2, the app shows the sentence."""


def in_a_line(error: BaseException) -> str:
    """The first line of what an error of a library says, or its name where it says nothing."""
    return str(error).partition("\n")[0] or type(error).__name__


def require_once(file: str, header: Sequence[str], columns: Iterable[str], error: type[NslError]) -> None:
    """Raise the error where the first row of a table, as it is written, has one of these columns more than once."""
    for column in columns:
        if (times := list(header).count(column)) > 1:
            raise error(f"{file} has {times} columns called {column}; keep one of them")


class SlideError(NslError):
    """An image cannot be opened, read or tiled."""


class ScaleError(NslError):
    """Micrometres per pixel, or a length in micrometres, is missing or impossible."""


class SpotsError(NslError):
    """Measured expression, spot positions or a manifest cannot be used."""


class AnnotationsError(NslError):
    """Annotated regions cannot be read, or do not lie on the slide."""


class WeightsError(NslError):
    """A weights folder cannot be used, or lacks a gene that is wanted."""


class HubError(NslError):
    """Weights cannot be had from the Hugging Face Hub, or published to it."""


class Cancelled(NslError):
    """Long work was cancelled before it had a result."""

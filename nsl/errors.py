"""What can go wrong with a user's input. A message is one sentence: what, the value seen, the remedy."""


class NslError(Exception):
    """Base of every error a user can mend; the command line exits with 2, the app shows the sentence."""


def in_a_line(error: BaseException) -> str:
    """The first line of what an error of a library says, or its name where it says nothing."""
    return str(error).partition("\n")[0] or type(error).__name__


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

"""The slides of a run: named one by one, in a CSV, or all of a folder."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nsl.cohort.layout import SLIDES
from nsl.errors import NslError, ScaleError, SlideError, require_once
from nsl.genes import plain_text, separator_of
from nsl.slides.address import Address, address_of
from nsl.slides.folder import FolderSlide, slides_in
from nsl.slides.scale import checked_mpp

COLUMNS = ("slide", "mpp", "group", "regions", "patient")
"""Of a list of slides; all but the first may be left out, and other columns are passed over."""
_MOST_SLIDES = 100_000
_LISTS = (".csv", ".tsv")


@dataclass(frozen=True)
class ListedSlide:
    """One slide of a run."""

    path: Path | Address
    """Absolute: workers run in folders of their own."""
    listed: str
    """As the list names it."""
    name: str
    """Of its results, which no other slide of the run has."""
    mpp: float | None = None
    """µm/px at full resolution, where the list says it."""
    group: str = ""
    """What it is compared by."""
    regions: Path | None = None
    """QuPath's annotations of it, as GeoJSON."""
    patient: str = ""
    """Whose it is, where the list says it."""


def list_slides(given: Sequence[Path | Address], out: Path, mpp: float | None = None) -> list[ListedSlide]:
    """The slides that files, addresses, lists (`.csv`, `.tsv`) and folders name, in this order.

    Paths in a list are relative to it. A slide is called by its file's name without the ending; where two are called
    the same, the later ones are numbered.

    out : folder of the results; what lies in it is no slide of a folder around it.
    mpp : µm/px of the slides of which a list does not say it.

    Raises NslError: a list cannot be read or a cell of it makes no sense, a folder holds no slide or would hold the
    results among them, or a slide is named twice.
    """
    found = list(itertools.islice(_named(given, out, mpp), _MOST_SLIDES + 1))
    if len(found) > _MOST_SLIDES:
        raise NslError(f"more than {_MOST_SLIDES:,} slides are listed; run them in parts")
    seen: dict[Path | Address, str] = {}
    for slide in found:
        real = slide.path.resolve() if isinstance(slide.path, Path) else slide.path
        if real in seen:
            raise NslError(f"{slide.listed} is the same slide as {seen[real]}; list each slide once")
        seen[real] = slide.listed
    return list(_distinct(found))


def _named(given: Iterable[Path | Address], out: Path, mpp: float | None) -> Iterator[ListedSlide]:
    for path in given:
        if isinstance(path, Address):
            yield ListedSlide(path, path.url, path.stem, mpp)
        elif path.suffix.lower() in _LISTS:
            yield from _of_table(path, mpp)
        elif path.is_dir() and (inside := _slides_beside(path, out)):
            yield from (ListedSlide(one.path.absolute(), one.name, _called(one), mpp) for one in inside)
        else:  # what cannot be opened says so when its turn comes
            yield ListedSlide(path.absolute(), str(path), path.stem, mpp)


def _slides_beside(folder: Path, out: Path) -> list[FolderSlide]:
    """The slides of a folder but for the results of an earlier run in it; NslError where they would lie among them."""
    slides, around, results = slides_in(folder, most=None), folder.resolve(), out.resolve()
    if slides and around == results:
        raise _among(around)
    if not results.is_relative_to(around):
        return slides
    return [one for one in slides if not one.path.resolve().is_relative_to(results)]


def _among(folder: Path) -> NslError:
    return NslError(
        f"the results would lie among the slides of {folder.name}; name another folder with --out, such as "
        f"{folder.name}-results"
    )


def _called(slide: FolderSlide) -> str:
    """Its file without the ending; a DICOM slide is called by its folder, as its files have numbers for names."""
    name = Path(slide.name).name
    return slide.path.stem if name == slide.path.name else name


def slides_of_cohort(given: Path, out: Path, mpp: float | None = None) -> list[ListedSlide]:
    """`list_slides` of one list or one folder; results of its slides will lie in a folder in `out`.

    Raises NslError: as `list_slides`, or it is neither a list nor a folder, or names no slide.
    """
    if given.suffix.lower() not in _LISTS and not given.is_dir():
        missing = "" if given.exists() else " does not exist; it"
        raise NslError(f"{given.name}{missing} must be a CSV or TSV with a column slide, or a folder of slides")
    if given.is_dir() and given.resolve().is_relative_to(out.resolve() / SLIDES):
        raise _among(given.resolve())
    slides = list_slides([given], out, mpp)
    if not slides or (given.is_dir() and slides[0].path == given.absolute()):
        raise SlideError(f"{given.name} holds no slide; name a folder of slides, or a CSV or TSV with a column slide")
    return slides


def _distinct(slides: Iterable[ListedSlide]) -> Iterator[ListedSlide]:
    """The slides with names of their own, also where a disk takes capitals and small letters for the same."""
    taken: set[str] = set()
    for slide in slides:
        names = itertools.chain([slide.name], (f"{slide.name}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name.casefold() not in taken)
        taken.add(name.casefold())
        yield replace(slide, name=name)


def _of_table(path: Path, mpp: float | None) -> Iterator[ListedSlide]:
    try:
        text = re.sub(r"\Asep=.\r?\n", "", plain_text(path.read_bytes()))  # Excel's, by which it knows its own files
        with io.StringIO(text, newline="") as file:
            rows = csv.DictReader(file, restkey="", delimiter=separator_of(text.partition("\n")[0]))
            rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
            header = ", ".join(rows.fieldnames)[:80] or "nothing"
            if "slide" not in rows.fieldnames:
                raise NslError(
                    f"{path.name} has no column slide (its first line is {header}); separate the columns "
                    f"{','.join(COLUMNS)} by commas, semicolons or tabs"
                )
            require_once(path.name, rows.fieldnames, COLUMNS, NslError)
            slides = [_of_row(path, row, rows.line_num, mpp) for row in rows if any(map(_cell, row.values()))]
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise NslError(f"{path.name} cannot be read ({reason}); give a CSV with a column slide") from None
    if not slides:
        raise NslError(f"{path.name} lists no slide; write one a line under the column slide")
    yield from slides


def _of_row(path: Path, row: Mapping[str, str | None], line: int, mpp: float | None) -> ListedSlide:
    slide, scale, group, regions, patient = (_cell(row.get(column)) for column in COLUMNS)
    if not slide:
        raise NslError(f"{path.name} names no slide on line {line}; write its file there, or take the line out")
    if "\0" in slide + regions:
        raise NslError(f"{path.name} is no plain text (line {line}); save it as CSV in UTF-8")
    folder = path.absolute().parent
    try:
        given = checked_mpp(float(scale.replace(",", "."))) if scale else mpp
    except (ValueError, ScaleError):
        raise ScaleError(
            f'{path.name} has the mpp "{scale}" on line {line}; write µm/px as a number such as 0.25'
        ) from None
    path = address_of(slide) or folder / slide
    return ListedSlide(path, slide, path.stem, given, group, folder / regions if regions else None, patient)


def _cell(value: str | list[str] | None) -> str:
    """What stands in a cell; of cells beyond the header nothing."""
    return value.strip() if isinstance(value, str) else ""

"""A report is a list of topics: each is measured by itself and becomes a section of the page."""

import contextlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from data.sample_index import SampleIndex
from data.samples import open_samples
from dnnlib import files
from dnnlib.cli import is_first_process
from dnnlib.options import Job, JobError, Progress
from dnnlib.runs import describe_environment
from evaluation.html import write_report
from evaluation.options import EvaluationOptions
from evaluation.report import Report, Section, provenance_section, section_text
from metrics import NotMeasuredError


class Topic(ABC):
    """One question, with inputs that were opened and checked.

    Attributes:
        key: of the section, in links and in the report's JSON.
        title: of the section.
    """

    key: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def measure(self, progress: Progress) -> Section:
        """Return its part of the report. Raises: NotMeasuredError where the data allow none."""

    @classmethod
    def skip(cls, reason: str) -> Section:
        """Return the section that says why nothing is measured."""
        skipped = ((cls.title, " ".join(reason.split())),)
        return Section(key=cls.key, title=cls.title, lead="Not measured.", skipped=skipped)


@contextlib.contextmanager
def skip_unmeasured(skipped: list[tuple[str, str]], what: str) -> Iterator[None]:
    """Note what the data do not allow, and why, in place of the NotMeasuredError."""
    try:
        yield
    except NotMeasuredError as error:
        skipped.append((what, str(error)))


@contextlib.contextmanager
def damage_is_unmeasured() -> Iterator[None]:
    """Raise NotMeasuredError for a file that cannot be decoded, in place of the ValueError."""
    try:
        yield
    except ValueError as error:
        raise NotMeasuredError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class ReportJob(Job):
    """Measures topics and writes the page, the JSON and the tables.

    Attributes:
        name: of the files.
        title, subtitle: of the page.
        topics: in the order of the page; a section stands for a topic that is skipped. A single one
            must be measurable; of several, what the data do not allow is named on the page.
        plan: what --dry-run prints.
        options: of the command: where the files go, and the seed.
        inputs: returns what is read -> its SHA-256.
        fails_on_alarm: whether a section's alarm makes the job fail, after the page is written.
    """

    name: str
    title: str
    subtitle: str
    topics: Sequence[Topic | Section]
    plan: Mapping[str, Any]
    options: EvaluationOptions
    inputs: Callable[[], Mapping[str, str]]
    fails_on_alarm: bool = False

    def __post_init__(self) -> None:
        check_outdir(self.options.outdir)

    def describe(self) -> Mapping[str, Any]:
        """Return what --dry-run prints."""
        return self.plan

    def run(self, progress: Progress) -> str | None:
        """Measure all topics; the first process writes the report and returns its tables.

        Raises: JobError for an alarm, where that is asked for.
        """
        sections = [self._section(topic, progress) for topic in self.topics]
        if not is_first_process():
            return None
        last = provenance_section(
            sys.argv, describe_environment(), self.inputs(), self.options.seed
        )
        report = Report(title=self.title, subtitle=self.subtitle, sections=(*sections, last))
        page, numbers = write_report(report, self.options.outdir, self.name)
        tables = "\n\n".join(section_text(section) for section in sections)
        text = f"{tables}\n\nwrote {page} and {numbers}"
        alarms = [section.alarm for section in sections if section.alarm]
        if alarms and self.fails_on_alarm:
            raise JobError("\n".join([text, *alarms]))
        return text

    def _section(self, topic: Topic | Section, progress: Progress) -> Section:
        if isinstance(topic, Section):
            return topic
        try:
            return topic.measure(progress)
        except NotMeasuredError as error:
            if len(self.topics) == 1:
                raise
            return topic.skip(str(error))


def check_outdir(path: Path) -> None:
    """Check that results can be written to a folder, which may be absent; writes nothing.

    Raises: ValueError where it, or the nearest folder above it, is a file or closed to us.
    """
    nearest = files.nearest_place(path)
    if not nearest.is_dir():
        raise ValueError(f"--outdir {path}: must be a folder or absent, {nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"--outdir {path}: must be writable, {nearest} is not")


def open_sets(paths: Mapping[str, Path | None]) -> dict[str, SampleIndex]:
    """Return the data sets that are given, by their role."""
    return {role: open_samples(path) for role, path in paths.items() if path is not None}


def open_named_sets(paths: Sequence[Path]) -> dict[str, SampleIndex]:
    """Return data sets by their names; of equal names, the later one is named by its path."""
    sets: dict[str, SampleIndex] = {}
    for path in paths:
        samples = open_samples(path)
        name = samples.name if samples.name not in sets else str(path)
        if name in sets:
            raise ValueError(f"--data: {path} is given twice")
        sets[name] = samples
    return sets


def describe_sets(sets: Mapping[str, SampleIndex]) -> dict[str, Any]:
    """Return what a dry run says about data sets."""
    return {
        name: {
            "samples": len(samples),
            "people": samples.num_identities,
            "modalities": list(samples.modalities),
            "masks": samples.num_masks,
        }
        for name, samples in sets.items()
    }

"""Imports of pairs, for tests."""

from pathlib import Path

from data.importing.job import prepare
from data.importing.options import ImportOptions
from data.importing.plan import build_plan
from data.info import REPORT_FILE
from dnnlib.files import read_json


def quiet(*_arguments):
    return lambda _count: None


def run(outdir, faces=None, **options):
    """Import pairs; return the report. `faces`: options -> FaceTools."""
    resolved = ImportOptions(outdir=outdir, **options)
    prepare(resolved, faces and faces(resolved)).run(quiet)
    return read_json(outdir / REPORT_FILE)


def plan_of(**options):
    return build_plan(ImportOptions(outdir=Path("out"), **options))

"""Make and check data sets of paired RGB and NIR images."""

from data.check import CheckOptions
from data.check import prepare as prepare_check
from data.importing.job import ImportJob, prepare
from data.importing.options import ImportOptions
from dnnlib.command import command, command_group, lazy
from evaluation.options import PairArchiveOptions
from renderer.writer import ExampleOptions

EXAMPLES = """
  python prepare_dataset.py example --outdir DATASETS/example_dataset --resolution 64
  python prepare_dataset.py import --source photos --outdir DATASETS/faces --resolution 256
  python prepare_dataset.py check DATASETS/faces
"""
IMPORT_EXAMPLES = r"""
  python prepare_dataset.py import --source photos --outdir DATASETS/faces --resolution 256
  python prepare_dataset.py import --rgb colour --nir infrared --outdir DATASETS/faces \
      --pair-regex "(.+)_(?:vis|nir)" --crop 80,0,480,480
  python prepare_dataset.py import --source photos --outdir DATASETS/faces --resolution 256 \
      --align mtcnn --align-margin 0.3
"""
CHECK_EXAMPLES = """
  python prepare_dataset.py check DATASETS/faces
  python prepare_dataset.py check DATASETS/faces.zip
"""
BIN_EXAMPLES = """
  python prepare_dataset.py bin --data=DATASETS/faces/heldout --out=heldout.bin
  python prepare_dataset.py bin --data=photographs --out=own.bin --align=mtcnn --pairs=2000
"""
EXAMPLE_EXAMPLES = """
  python prepare_dataset.py example
  python prepare_dataset.py example --outdir DATASETS/tiny --identities 20 --resolution 32
"""

_build_faces = lazy("biometrics.import_faces:build_import_faces")


def _prepare_import(options: ImportOptions) -> ImportJob:
    return prepare(options, _build_faces(options) if options.needs_faces else None)


main = command_group(
    {
        "import": command(ImportOptions, _prepare_import, examples=IMPORT_EXAMPLES),
        "check": command(CheckOptions, prepare_check, examples=CHECK_EXAMPLES),
        "example": command(
            ExampleOptions, lazy("renderer.writer:prepare"), examples=EXAMPLE_EXAMPLES
        ),
        "bin": command(
            PairArchiveOptions, lazy("evaluation.pair_archive:prepare"), examples=BIN_EXAMPLES
        ),
    },
    help="Make a data set of paired RGB and NIR images, or check one.",
    examples=EXAMPLES,
)

if __name__ == "__main__":
    main()

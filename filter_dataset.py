"""Make a view of a folder of images without those that show a training identity."""

from dnnlib.command import command, lazy
from identities.options import FolderFilterOptions

EXAMPLES = r"""
  python filter_dataset.py --data=out/models/samples_1000 --outdir=out/models/private \
      --rec-model=recogniser.pth --training-ids=DATASETS/faces/identity_features.json
  python filter_dataset.py --data=DATASETS/synthetic --outdir=lists --list-only \
      --rec-model=r100.pth --training-ids=identity_features.json --face-check=mtcnn \
      --audit-model=second.pth --audit-features=identity_features_second.json
"""
EPILOG = """
Nothing in --data is deleted or changed: the view holds hard links, or copies where links are
impossible. Files of one sample (RGB, NIR, mask) stay or go together.
"""

main = command(
    FolderFilterOptions,
    lazy("identities.folder_filter:prepare"),
    examples=EXAMPLES,
    epilog=EPILOG,
)

if __name__ == "__main__":
    main()

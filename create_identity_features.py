"""Write identity_features.json: the embedding of each image of a data set by a recogniser."""

from biometrics.options import FeatureOptions
from dnnlib.command import command, lazy

EXAMPLES = r"""
  python create_identity_features.py --data-folder=DATASETS/example_dataset \
      --rec-model=EXPERIMENTS/runs/recogniser/recogniser.pth
  python create_identity_features.py --data-folder=DATASETS/faces --rec-model=r100.pth \
      --all-or-one=one --flip --device=cuda
"""
EPILOG = """
The file lies in the data folder, beside VIS and NIR, and with identity_features.info.json, which
names the recogniser. The identity of an image is its folder, or what stands before the last "_" of
its name. train_db_stylegan2.py --data=THAT_FOLDER then conditions on it.
"""

main = command(
    FeatureOptions, lazy("biometrics.extraction:prepare"), examples=EXAMPLES, epilog=EPILOG
)

if __name__ == "__main__":
    main()

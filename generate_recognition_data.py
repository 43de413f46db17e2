"""Write a data set of new identities, which no training identity resembles, in RGB and NIR."""

from dnnlib.command import command, lazy
from identities.options import IdentityDataOptions

EXAMPLES = r"""
  python generate_recognition_data.py --gen_model=network-snapshot-001000.pkl \
      --rec_model=recogniser.pth --training_ids=DATASETS/faces/identity_features.json \
      --outdir=out --ids=100 --samples_per_id=32
  python generate_recognition_data.py --training-ids=DATASETS/faces/identity_features.json \
      --rec-model=recogniser.pth --calibrate=0.0001
  torchrun --nproc-per-node=8 generate_recognition_data.py --gen-model=net.pkl \
      --rec-model=r100.pth --training-ids=identity_features.json --outdir=out --ids=10000 \
      --face-check=mtcnn --audit-model=second.pth --export=recordio
"""
EPILOG = """
Repeating a command continues it. The same options give the same bytes on the same kind of device,
whatever the number of processes and interruptions.
"""

main = command(
    IdentityDataOptions,
    lazy("identities.jobs:prepare"),
    examples=EXAMPLES,
    epilog=EPILOG,
    ignored=["--batch"],
)

if __name__ == "__main__":
    main()

"""Train a face recogniser on images of known identities."""

from dnnlib.command import command, lazy
from recognition.options import RecognitionOptions

EXAMPLES = r"""
  python train_recognition.py --config=EXPERIMENTS/example/recognition.json \
      --data=DATASETS/example_32 --outdir=EXPERIMENTS/runs/recogniser
  python train_recognition.py --data=new_people --mix-data=DATASETS/faces --blur=0.02 \
      --illumination=0.4 --heldout=DATASETS/faces/heldout --outdir=out
  python train_recognition.py --data=new_people --identity-mix=net.pkl --outdir=out
  torchrun --nproc-per-node=8 train_recognition.py --data=faces/train.rec --backbone=r100 \
      --sample-rate=0.1 --precision=fp16 --batch=1024 --outdir=out
"""
EPILOG = """
--data takes pairs (VIS and NIR, or a zip of them), a folder per identity, new identities with their
manifest, .rec and .tar files. The identity of an image is its folder, or what stands before the
last "_" of its name. The result is recogniser.pth, with insightface's parameter names. Repeating a
command continues it.
"""

main = command(
    RecognitionOptions, lazy("recognition.jobs:prepare"), examples=EXAMPLES, epilog=EPILOG
)

if __name__ == "__main__":
    main()

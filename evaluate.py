"""Says how good, aligned, separable and private generated images and data sets are."""

from biometrics.options import RecogniserOptions
from dnnlib.command import command, command_group, lazy
from evaluation.options import (
    ComparisonOptions,
    CurveOptions,
    IdentityOptions,
    MaskOptions,
    PrivacyOptions,
    QualityOptions,
    ReconstructionOptions,
    ReportOptions,
    VerificationOptions,
)

main = command_group(
    {
        "images": command(
            QualityOptions,
            lazy("evaluation.quality:prepare"),
            examples="""
  python evaluate.py images --network=network-snapshot-000060.pkl \\
      --data=DATASETS/example_dataset --metrics=fid2k_full,fid2k_full_NIR,pr2k3_full \\
      --extractor=standin --outdir=EXPERIMENTS/quality
  python evaluate.py images --images=samples_200 --data=DATASETS/faces \\
      --metrics=kid200_full,vendi200 --outdir=EXPERIMENTS/quality
""",
        ),
        "masks": command(
            MaskOptions,
            lazy("evaluation.masks:prepare"),
            examples="""
  python evaluate.py masks --true=DATASETS/example_dataset/test --found=predicted \\
      --outdir=EXPERIMENTS/masks
  python evaluate.py masks --true=annotated/masks --found=samples_200 --outdir=out
""",
        ),
        "verification": command(
            VerificationOptions,
            lazy("evaluation.verification:prepare"),
            examples="""
  python evaluate.py verification --data=DATASETS/example_dataset/heldout \\
      --rec-model=recogniser.pth --outdir=EXPERIMENTS/verification
  python evaluate.py verification --bin=lfw.bin --rec-model=recogniser.pth --outdir=out
""",
        ),
        "compare": command(
            ComparisonOptions,
            lazy("evaluation.comparison:prepare"),
            examples="""
  python evaluate.py compare one.png other.png --rec-model=r100.pth --align=mtcnn
  python evaluate.py compare generated DATASETS/faces --rec-model=r100.pth \\
      --thresholds=DATASETS/faces/thresholds.json
""",
        ),
        "recogniser": command(
            RecogniserOptions,
            lazy("biometrics.recogniser_job:prepare"),
            examples="""
  python evaluate.py recogniser --rec-model=w600k_r50.onnx --data=DATASETS/faces
  python evaluate.py recogniser --rec-model=facenet.pt --size=160 --order=bgr --mean=127.5 --std=128
""",
        ),
        "dataset": command(
            IdentityOptions,
            lazy("evaluation.identities:prepare"),
            examples="""
  python evaluate.py dataset --data=DATASETS/example_dataset --outdir=EXPERIMENTS/dataset
  python evaluate.py dataset --data=generated --real=DATASETS/example_dataset/heldout \\
      --rec-model=recogniser.pth --extractor=standin --outdir=EXPERIMENTS/dataset
""",
        ),
        "privacy": command(
            PrivacyOptions,
            lazy("evaluation.privacy:prepare"),
            examples="""
  python evaluate.py privacy --samples=generated --data=DATASETS/example_dataset \\
      --heldout=DATASETS/example_dataset/heldout --rec-model=recogniser.pth --outdir=out
  python evaluate.py privacy --samples=generated --data=DATASETS/example_dataset \\
      --rec-model=a.pth --audit-model=b.pth --thresholds=thresholds.json --outdir=out
""",
        ),
        "reconstruction": command(
            ReconstructionOptions,
            lazy("evaluation.reconstruction:prepare"),
            examples="""
  python evaluate.py reconstruction --training=out/projected_training \\
      --heldout=out/projected_heldout --outdir=EXPERIMENTS/reconstruction
  python evaluate.py reconstruction --training=out/a --heldout=out/b --heldout=out/c --outdir=out
""",
        ),
        "report": command(
            ReportOptions,
            lazy("evaluation.full_report:prepare"),
            examples="""
  python evaluate.py report --data=DATASETS/example_dataset --samples=samples_200 --outdir=out
  python evaluate.py report --data=DATASETS/example_dataset --samples=generated \\
      --heldout=DATASETS/example_dataset/heldout --rec-model=a.pth --audit-model=b.pth \\
      --extractor=standin --outdir=EXPERIMENTS/report
""",
        ),
        "training": command(
            CurveOptions,
            lazy("evaluation.training_curves:prepare"),
            examples="""
  python evaluate.py training EXPERIMENTS/runs/00000-example --outdir=EXPERIMENTS/curves
  python evaluate.py training EXPERIMENTS/runs/0000* --outdir=EXPERIMENTS/comparison
""",
        ),
    },
    help="Evaluate generators and data sets of paired RGB and NIR images.",
    examples="""
  python evaluate.py images --network=network-snapshot-000060.pkl --data=DATASETS/example_dataset \\
      --metrics=fid2k_full,pr2k3_full --extractor=standin --outdir=EXPERIMENTS/quality
  python evaluate.py training EXPERIMENTS/runs/00000-example --outdir=EXPERIMENTS/curves
""",
)


if __name__ == "__main__":
    main()

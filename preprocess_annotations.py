"""Turn painted annotations into class masks with their images and latents, ready for training."""

from dnnlib.command import command, lazy
from interpreter.options import AnnotationOptions

EXAMPLES = r"""
  python preprocess_annotations.py --annotations=out/painted --drawn=out/annotate \
      --classes=classes.json --outdir=out/processed
  python preprocess_annotations.py --annotations=eyes_GIMP --latents=back_latent_stylegan.npy \
      --outdir=eyes_processed
  python preprocess_annotations.py --auto=example --drawn=out/annotate --outdir=out/processed
"""
EPILOG = """
Annotations are image_N.xcf (GIMP), image_N_mask.png or image_maskN.npy; see docs/interpreter.md.
"""

main = command(
    AnnotationOptions, lazy("interpreter.annotations:prepare"), examples=EXAMPLES, epilog=EPILOG
)

if __name__ == "__main__":
    main()

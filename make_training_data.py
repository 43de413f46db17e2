"""Generate image pairs for people to annotate, with the latents that give them again."""

from dnnlib.command import command, lazy
from interpreter.options import AnnotationImageOptions

EXAMPLES = r"""
  python make_training_data.py --exp=EXPERIMENTS/interpreter_example/generate.json \
      --network=network-snapshot-000100.pkl --sv-path=out/annotate --num-sample=100 --select=8
  python make_training_data.py --exp=generate.json --sv-path=out/annotate --select=8 \
      --interpreter=out/models
"""
EPILOG = """
Writes images_to_annotate/image_N.jpg and image_N_NIR.jpg, latent_stylegan.npy (row N is the z of
image N), avg_latent_stylegan.npy, contact_sheet.jpg and training_data.json. Then paint the images
(docs/interpreter.md) and run preprocess_annotations.py.
"""

main = command(
    AnnotationImageOptions,
    lazy("interpreter.annotation_images:prepare"),
    examples=EXAMPLES,
    epilog=EPILOG,
    ignored=["--expand_to_dimensions"],
)

if __name__ == "__main__":
    main()

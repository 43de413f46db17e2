"""What hostile files are put before: one entry a kind of file, with a valid one and its reader."""

import importlib.util
import pickle
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from biometrics.features import read_identity_features
from biometrics.recogniser_settings import RecogniserSettings, settings_path, write_settings
from biometrics.recognisers import load_recogniser
from biometrics.thresholds import calibrate, read_thresholds, write_thresholds
from data import stored
from data.check import check_pairs
from data.class_list import ClassList, class_list_from_json, load_class_list
from data.dataset import PairDataset
from data.mask_files import read_annotation
from data.modalities import RGB
from data.numbers import load_archived_rows, load_rows
from data.pixels import ORIENTATION_TAG, decode_image, verify_image
from data.recordio import write_identities
from data.samples import open_samples
from data.shards import write_shard
from dnnlib import files
from dnnlib.runs import find_output
from evaluation.pairs import read_pair_archive, read_pair_list
from interpreter.ensemble import load_models
from interpreter.experiment import load_experiment
from interpreter.features import feature_layout
from networks.sampling import load_conditions
from networks.snapshot import build_generator, load_snapshot
from recognition.conditions import condition_scale
from refinement.model_files import load_refiner
from segmentation.classes import load_merge
from segmentation.model_files import Segmenter, load_segmenter, save_segmenter
from segmentation.networks import build_network
from segmentation.options import NetworkConfig
from tests.helpers import labelled, published
from tests.helpers.golden import SHARED
from tests.helpers.images import encode_png_16, random_pixels, write_image, zip_folder
from tests.helpers.interpreters import (
    CLASS_LIST,
    save_small_models,
    save_small_snapshot,
    small_generator,
)
from tests.helpers.networks import (
    random_network,
    small_discriminator_config,
    small_generator_config,
)
from tests.helpers.people import (
    clustered_features,
    save_recogniser,
    save_varied_snapshot,
    write_people,
)
from tests.helpers.refinement import save_random_refiner
from torch_utils.checkpoints import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]
OCULAR = SHARED.parent / "ocular"


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        prepare: writes valid files into a folder; returns those that are mutated, one at a time.
        load: reads the file of such a path, and whatever lies beside it, as commands do.
        needs: a library without which the kind is not read.
        is_watched: reading writes nothing, not even a temporary file.
    """

    prepare: Callable[[Path], list[Path]]
    load: Callable[[Path], object]
    needs: str = ""
    is_watched: bool = True

    def is_available(self):
        """Tell whether its library is installed."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


# Networks


def _ours(folder):
    return [save_small_snapshot(folder / "net.pkl"), save_varied_snapshot(folder / "cond.pkl")]


def _published(folder):
    single = small_generator_config(heads={"rgb": 3})
    discriminator = small_discriminator_config(mapping=single.mapping)
    both = [random_network(small_generator_config()), random_network(discriminator)]
    trees = {
        "G_ema": published.generator_tree(both[0]),
        "D": published.discriminator_tree(both[1]),
    }
    generator = published.tensorflow_generator(random_network(single))
    tensorflow = (generator, published.tensorflow_discriminator(both[1]), generator)
    found = []
    for name, content, protocol in (("new", trees, 4), ("old", trees, 2), ("tf", tensorflow, 2)):
        found.append(folder / f"{name}.pkl")
        found[-1].write_bytes(published.dumps(content, protocol=protocol))
    shared = sorted(SHARED.glob("snapshot_*.pkl"))[:1]
    return found + [Path(shutil.copyfile(path, folder / path.name)) for path in shared]


def _load_network(path):
    return build_generator(load_snapshot(path))


def _checkpoint(folder):
    state = {"format": "x", "version": 1, "step": 3, "task": {"w": torch.ones(3, 2), "n": [1, {}]}}
    save_checkpoint(folder / "checkpoint.pt", state)
    return [folder / "checkpoint.pt"]


def _weights(folder):
    state = torch.load(save_recogniser(folder / "plain.pth"), weights_only=True)
    dressed = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(dressed, folder / "dressed.pth")
    torch.save(dressed, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    return sorted(folder.glob("*.pth"))


def _safetensors(folder):
    from safetensors.torch import save_file  # noqa: PLC0415  # optional

    save_file(torch.load(save_recogniser(folder / "x.pth"), weights_only=True),
              folder / "x.safetensors")  # fmt: skip
    return [folder / "x.safetensors"]


def _onnx(folder):
    import onnx  # noqa: PLC0415  # optional
    from onnx import helper, numpy_helper  # noqa: PLC0415

    weights = np.random.default_rng(0).standard_normal([3 * 16 * 16, 8]).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 8])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "x.onnx")
    return [folder / "x.onnx"]


def _torchscript(folder):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), folder / "x.pt")
    write_settings(folder / "x.pt", RecogniserSettings(size=16))
    return [folder / "x.pt"]


def _settings(folder):
    path = save_recogniser(folder / "x.pth")
    write_settings(path, RecogniserSettings(size=16, mean=(1.0,), std=(2.0,)))
    return [settings_path(path)]


def _models(folder):
    save_small_models(folder, feature_layout(small_generator().config).total)
    files.write_json(folder / "interpreter.json", {"finished": True, "identity": {"seed": 0}})
    return [folder / "model_0.pth", folder / "interpreter.json"]


def _segmenter(folder):
    config = NetworkConfig(classes=3, width=4, depth=2)
    classes = class_list_from_json(CLASS_LIST, "")
    network = build_network(config)
    segmenter = Segmenter(network=network, config=config, classes=classes,
                          modalities=(RGB,), side=16, device=CPU)  # fmt: skip
    save_segmenter(folder / "segmenter.pth", segmenter)
    return [folder / "segmenter.pth"]


# Images and numbers


def _images(folder):
    image, alpha = Image.fromarray(random_pixels(0, 24)), Image.fromarray(random_pixels(1, 24))
    alpha.putalpha(77)
    deep = np.arange(24 * 24 * 3, dtype=np.uint16).reshape(24, 24, 3) * 37
    turned = Image.Exif()
    turned[ORIENTATION_TAG] = 6
    image.save(folder / "a.jpg", exif=turned)
    image.save(folder / "progressive.jpg", progressive=True)
    for name in ("a.png", "a.webp", "a.tif"):
        alpha.save(folder / name)
    image.save(folder / "lzw.tif", compression="tiff_lzw")
    for name in ("a.bmp", "a.gif", "a.ppm", "a.tga"):
        image.save(folder / name)
    Image.fromarray(deep[..., 0]).save(folder / "grey.png")
    (folder / "deep.png").write_bytes(encode_png_16(deep))
    image.quantize(8).save(folder / "palette.png")
    return sorted(folder.iterdir())


def _load_image(path):
    with path.open("rb") as file:
        stored.load_image(file, 1, str(path), stored.Reading(limits=(0.0, 4095.0), page=1))
    verify_image(path)
    return decode_image(path, 3)


def _masks(folder):
    blocks = np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2) % 3, np.ones([8, 8], np.uint8))
    np.save(folder / "image_0.npy", blocks.astype(np.int64))
    write_image(folder / "image_1_mask.png", blocks)
    write_image(folder / "image_2_mask.png", ClassList().palette()[blocks])
    return sorted(folder.iterdir())


def _xcf(folder):
    found = sorted((OCULAR / "experiment").rglob("*.xcf"))[:2]
    return [Path(shutil.copyfile(path, folder / path.name)) for path in found]


def _rows(folder):
    np.save(folder / "latents.npy", np.random.default_rng(0).standard_normal([5, 8]))
    return [folder / "latents.npy"]


def _archived_rows(folder):
    np.savez_compressed(folder / "w.npz", w=np.random.default_rng(0).standard_normal([5, 2, 8]))
    return [folder / "w.npz"]


# Data sets


def _tree(folder, name="set"):
    write_people(folder / name, save_recogniser(folder / "rec.pth"), people=2, images=2)
    labels = [[f"{p}_{i}.png", p] for p in range(2) for i in range(2)]
    files.write_json(folder / name / "dataset.json", {"labels": labels})
    files.write_json(folder / name / "dataset_info.json", {"classes": CLASS_LIST})
    return folder / name


def _labels(folder):
    root = _tree(folder)
    return sorted(root.glob("*.json"))


def _load_labels(path):
    data = PairDataset.open(path.parent, use_labels=True)
    check_pairs(str(path.parent), _silent, 1)
    return data.labels


def _archive(folder):
    return [zip_folder(_tree(folder), folder / "set.zip")]


def _load_samples(path):
    samples = open_samples(path)
    for index in range(min(len(samples), 8)):
        for kind in samples.modalities:
            samples.image(kind, index)
        samples.mask(index)
    return samples.fingerprint()


def _manifest(folder):
    root = labelled.write_generated(folder / "set", 3)
    return [root / "manifest.jsonl", root / "dataset_info.json"]


def _records(folder):
    paths = [write_image(folder / f"{i}.png", random_pixels(i)) for i in range(4)]
    out = folder / "rec"
    out.mkdir()
    write_identities(out, [[(p.name, p) for p in paths[:2]], [(p.name, p) for p in paths[2:]]], 16)
    return [out / name for name in ("train.rec", "train.idx", "property")]


def _load_records(path):
    return _load_samples(path.with_name("train.rec"))


def _shards(folder):
    image = write_image(folder / "x.png", random_pixels(0)).read_bytes()
    with (folder / "a.tar").open("wb") as file:
        parts = {"rgb.png": image, "nir.png": image, "cls": b"3", "json": b"{}"}
        write_shard(file, [(f"{i:03d}", parts) for i in range(3)])
    return [folder / "a.tar"]


def _bins(folder):
    image = write_image(folder / "x.png", random_pixels(0)).read_bytes()
    for protocol in (2, 4):
        content = [image] * 4, [True, False]
        (folder / f"{protocol}.bin").write_bytes(pickle.dumps(content, protocol=protocol))
    return sorted(folder.glob("*.bin"))


# Other JSON and text


def _json(name, content):
    def prepare(folder):
        files.write_json(folder / name, content)
        return [folder / name]

    return prepare


def _features(folder):
    root = _tree(folder)
    return [root / "identity_features.json", root / "identity_features.info.json"]


def _thresholds(folder):
    found = calibrate(clustered_features(people=90, images=3), fmr=0.01)
    write_thresholds(folder / "thresholds.json", found)
    return [folder / "thresholds.json"]


def _experiment(folder):
    shutil.copy(ROOT / "EXPERIMENTS/interpreter_example/train_datagan.json", folder / "exp.json")
    return [folder / "exp.json"]


def _summary(folder):
    content = {"finished": True, "identity": {"people": {"scale": 4.0}}}
    files.write_json(folder / "summary.json", content)
    save_varied_snapshot(folder / "net.pkl")
    return [folder / "summary.json"]


def _pair_list(folder):
    (folder / "pairs.csv").write_text("first,second,same\na_0,a_1,1\nNIR/a_0.png,b_0,0\n")
    (folder / "pairs.txt").write_text("10\t300\nAbel\t1\t2\nAbel\t1\tCain\t3\n")
    return sorted(folder.iterdir())


def _load_features(path):
    path = path.with_name("identity_features.json")
    return load_conditions(path, "--labels", 4.0), read_identity_features(path)


def _silent(*_):
    return lambda _count: None


TARGETS = {
    "snapshot": Target(_ours, _load_network),
    "published snapshot": Target(_published, _load_network),
    "checkpoint": Target(_checkpoint, load_checkpoint),
    "weights .pth": Target(_weights, load_recogniser),
    "safetensors": Target(_safetensors, load_recogniser, "safetensors"),
    "ONNX": Target(_onnx, load_recogniser, "onnxruntime"),
    "TorchScript": Target(_torchscript, load_recogniser),
    "recogniser settings": Target(_settings, lambda path: load_recogniser(path.with_suffix(""))),
    "interpreter models": Target(_models, lambda path: load_models(path.parent)),
    "segmenter": Target(_segmenter, lambda path: load_segmenter(path, CPU)),
    "refiner": Target(
        lambda folder: [save_random_refiner(folder / "refiner.pt")],
        lambda path: load_refiner(path, CPU),
    ),
    "images": Target(_images, _load_image),
    "masks": Target(_masks, lambda path: read_annotation(path, ClassList())),
    "XCF": Target(_xcf, lambda path: read_annotation(path, ClassList()), "gimpformats"),
    "latents .npy": Target(_rows, lambda path: load_rows(path, "--latents")),
    "latents .npz": Target(
        _archived_rows,
        lambda path: load_archived_rows(path, "w", "--projected-w"),
        is_watched=False,
    ),
    "labels": Target(_labels, _load_labels),
    "zip": Target(_archive, _load_samples),
    "manifest": Target(_manifest, lambda path: _load_samples(path.parent)),
    ".rec": Target(_records, _load_records),
    "tar": Target(_shards, _load_samples),
    ".bin": Target(_bins, read_pair_archive),
    "identity features": Target(_features, _load_features),
    "thresholds": Target(_thresholds, read_thresholds),
    "experiment": Target(_experiment, load_experiment),
    "classes": Target(_json("classes.json", CLASS_LIST), load_class_list),
    "merge": Target(
        _json("merge.json", {"classes": CLASS_LIST, "map": ["a", 1, None]}),
        lambda path: load_merge(str(path)),
    ),
    "record": Target(
        _json("r.json", {"identity": {"batch": 4, "n": {"k": [1]}}, "finished": True}),
        lambda path: find_output(path.parent, path.name, {"batch": 4, "n": {"k": [1]}}),
    ),
    "summary": Target(
        _summary,
        lambda path: condition_scale(path.parent, load_snapshot(path.with_name("net.pkl"))),
    ),
    "pair lists": Target(_pair_list, read_pair_list),
}

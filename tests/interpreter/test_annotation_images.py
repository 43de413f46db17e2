import dataclasses

import numpy as np
import pytest
import torch

from dnnlib import files
from dnnlib.runs import find_output
from interpreter.annotation_images import (
    RECORD,
    AnnotationImagesJob,
    AnnotationRequest,
    describe_maps,
    propose_images,
    spread_most,
)
from interpreter.features import feature_layout
from interpreter.native import NativeInterpreter
from networks.options import Truncation
from tests.helpers.interpreters import read_tree, small_ensemble, small_generator


def request(count=5, **changes):
    generator = changes.pop("generator", None) or small_generator()
    truncation = Truncation(psi=0.5, cutoff=8)
    return AnnotationRequest(
        generator=generator, truncation=truncation, count=count, seed=1, **changes
    )


def ignore(_count):
    pass


def write(folder, wanted):
    output = find_output(folder, RECORD, wanted.identity())
    job = AnnotationImagesJob(output=output, request=wanted, select=None, interpreter=None)
    job.run(lambda *_: ignore)
    return read_tree(folder)


def test_images_latents_mean_and_record(tmp_path):
    wanted = request()
    tree = write(tmp_path / "out", wanted)
    for index in range(5):
        assert f"images_to_annotate/image_{index}.jpg" in tree
        assert f"images_to_annotate/image_{index}_NIR.jpg" in tree
    latents = np.load(tmp_path / "out" / "latent_stylegan.npy")
    assert latents.shape == (5, 8)
    assert latents.dtype == np.float64
    mean = np.load(tmp_path / "out" / "avg_latent_stylegan.npy")
    assert mean.shape == (wanted.generator.num_ws, 12)
    assert np.array_equal(mean[3], wanted.generator.mapping.w_avg.numpy())
    record = files.read_json(tmp_path / "out" / RECORD)
    assert record["finished"]
    assert record["identity"]["truncation_psi"] == 0.5
    assert record["identity"]["truncation_cutoff"] == 8
    assert record["identity"]["noise_mode"] == "const"
    assert (
        write(tmp_path / "again", wanted)["images_to_annotate/image_3.jpg"]
        == tree["images_to_annotate/image_3.jpg"]
    )


def test_conditional_networks_draw_conditions(tmp_path):
    conditions = np.eye(3, dtype=np.float32)
    wanted = request(4, generator=small_generator(c_dim=3), conditions=conditions)
    write(tmp_path / "out", wanted)
    labels = np.load(tmp_path / "out" / "labels.npy")
    assert labels.shape == (4, 3)
    assert (labels.sum(axis=1) == 1).all()
    with pytest.raises(ValueError, match=r"other options \(conditions "):
        write(tmp_path / "out", dataclasses.replace(wanted, conditions=-conditions))


def test_the_most_uncertain_images_are_proposed_where_there_are_models(tmp_path):
    wanted = request(6)
    layout = feature_layout(wanted.generator.config)
    interpreter = NativeInterpreter(small_ensemble(layout.total, members=4), layout)
    sampler = wanted.sampler()
    scores = [interpreter.label(s.maps).score for s in sampler.features(sampler.ws(range(6)))]
    chosen = propose_images(wanted, tmp_path, 2, interpreter, ignore)
    # Padding is other samples here, so that equal scores may round apart.
    assert scores[chosen[0]] >= scores[chosen[1]] - 1e-5
    assert scores[chosen[1]] >= np.sort(scores)[-2] - 1e-5
    assert files.read_json(tmp_path / "selection.json")["images"] == chosen


def test_spread_images_are_proposed_without_models(tmp_path):
    wanted = request(6)
    chosen = propose_images(wanted, tmp_path, 3, None, ignore)
    assert len(set(chosen)) == 3
    assert (tmp_path / "selection.jpg").is_file()


def test_farthest_first_takes_one_of_each_cluster():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    noise = 0.1 * torch.randn([40, 2], generator=torch.Generator().manual_seed(0))
    rows = centres.repeat(10, 1) + noise
    assert {index % 4 for index in spread_most(rows, 4)} == {0, 1, 2, 3}
    assert sorted(spread_most(rows, 40)) == list(range(40))


def test_descriptions_are_means_and_deviations():
    m = torch.arange(8.0).view(2, 2, 2)
    assert describe_maps([m]).tolist() == pytest.approx([1.5, 5.5, 1.25**0.5, 1.25**0.5])

import numpy as np
import pytest
import torch

from dnnlib import files
from dnnlib.runs import find_output
from interpreter.annotation_images import (
    RECORD,
    AnnotationImagesJob,
    describe_maps,
    spread_most,
)
from interpreter.features import feature_layout
from interpreter.native import NativeInterpreter
from networks.options import Truncation
from networks.sampling import IndexedSampler
from tests.helpers.interpreters import read_tree, small_ensemble, small_generator


def job_in(folder, count=5, interpreter=None, c_dim=0, conditions=None):
    sampler = IndexedSampler(
        small_generator(c_dim=c_dim),
        conditions,
        name="--labels",
        stream="annotation",
        truncation=Truncation(psi=0.5, cutoff=8),
        seed=1,
    )
    output = find_output(folder, RECORD, {})
    return AnnotationImagesJob(output=output, sampler=sampler, count=count, interpreter=interpreter)


def ignore(_count):
    pass


def write(folder, *args, **changes):
    job_in(folder, *args, **changes).run(lambda *_: ignore)
    return read_tree(folder)


def test_images_latents_mean_and_record(tmp_path):
    tree = write(tmp_path / "out")
    for index in range(5):
        assert f"images_to_annotate/image_{index}.jpg" in tree
        assert f"images_to_annotate/image_{index}_NIR.jpg" in tree
    latents = np.load(tmp_path / "out" / "latent_stylegan.npy")
    assert latents.shape == (5, 8)
    assert latents.dtype == np.float64
    mean = np.load(tmp_path / "out" / "avg_latent_stylegan.npy")
    generator = small_generator()
    assert mean.shape == (generator.num_ws, 12)
    assert np.array_equal(mean[3], generator.mapping.w_avg.numpy())
    assert files.read_json(tmp_path / "out" / RECORD)["finished"]
    assert (
        write(tmp_path / "again")["images_to_annotate/image_3.jpg"]
        == tree["images_to_annotate/image_3.jpg"]
    )


def test_conditional_networks_draw_conditions(tmp_path):
    write(tmp_path / "out", 4, c_dim=3, conditions=torch.eye(3))
    labels = np.load(tmp_path / "out" / "labels.npy")
    assert labels.shape == (4, 3)
    assert (labels.sum(axis=1) == 1).all()


def test_the_most_uncertain_images_are_proposed_where_there_are_models(tmp_path):
    layout = feature_layout(small_generator().config)
    interpreter = NativeInterpreter(small_ensemble(layout.total, members=4), layout)
    job = job_in(tmp_path, 6, interpreter)
    ws = job.sampler.ws(range(6))
    scores = [interpreter.label(sample.maps).score for sample in job.sampler.features(ws)]
    chosen = job.propose(2, ignore)
    # Padding is other samples here, so that equal scores may round apart.
    assert scores[chosen[0]] >= scores[chosen[1]] - 1e-5
    assert scores[chosen[1]] >= np.sort(scores)[-2] - 1e-5
    assert files.read_json(tmp_path / "selection.json")["images"] == chosen


def test_spread_images_are_proposed_without_models(tmp_path):
    chosen = job_in(tmp_path, 6).propose(3, ignore)
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

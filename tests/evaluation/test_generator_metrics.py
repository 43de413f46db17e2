"""All metrics together: right numbers, right names, each image once, the cache."""

import dataclasses

import numpy as np
import pytest
import torch

from data.samples import open_samples
from evaluation.extractors import Extractor
from evaluation.features import BLOCK, FeatureCache, FeatureSet, FolderImages, SampledImages
from evaluation.generator_metrics import MetricPlan, compute_scores, evaluate
from evaluation.names import Role, parse_metrics
from metrics.distances import frechet_distance, kernel_distance
from metrics.diversity import vendi_score
from metrics.neighbours import neighbour_scores
from metrics.statistics import compute_moments
from tests.helpers.measures import Numbers, Pixels, pixel_extractors, write_people

ALL = "fid60_full,fid60_full_NIR,fid60_full_joint,kid60_full,pr603_full,dc605_full,vendi60"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return folder(write_people(tmp_path_factory.mktemp("real") / "set", people=20))


def folder(path):
    return FolderImages(open_samples(path))


def plan_of(names, real, *, extractors=None, **options):
    extractors = extractors or pixel_extractors()
    metrics = parse_metrics(names)
    return MetricPlan(
        metrics=metrics,
        extractors={metric.role: extractors[metric.role] for metric in metrics},
        real=real,
        **options,
    )


def measure(plan, count=60):
    return evaluate(plan, SampledImages(Numbers(), count), Numbers())


def values_of(results):
    return {name: entry.value for one in results for name, entry in one.values.items()}


def features(source, view, count):
    images = [source.load(block)[view] for block in range(-(-count // BLOCK))]
    return Pixels()(torch.cat(images)[:count].expand(-1, 3, -1, -1)).numpy()


def test_numbers_are_those_of_the_parts(real):
    fake = SampledImages(Numbers(), 60)
    rows = {view: (features(fake, view, 60), features(real, view, 60)) for view in ("rgb", "nir")}
    found = values_of(measure(plan_of(ALL, real)))
    rgb, nir = rows["rgb"], rows["nir"]
    joint = [np.concatenate([a, b], axis=1) for a, b in zip(rgb, nir, strict=True)]
    for ending, pair in (("", rgb), ("_NIR", nir), ("_joint", joint)):
        expected = frechet_distance(*(compute_moments(part) for part in pair))
        assert found[f"fd60_full{ending}.pixels"] == pytest.approx(expected, rel=1e-6)
    own = real.identities(len(rgb[1])), fake.identities(60)
    kernel = kernel_distance(rgb[1], rgb[0], seed=0, identities=own)
    assert found["kd60_full.pixels"] == pytest.approx(kernel.mean(), rel=1e-9)
    scores = neighbour_scores(rgb[1], rgb[0], k=3)
    assert found["pr603_full.pixels_precision"] == scores.precision
    assert found["pr603_full.pixels_recall"] == scores.recall
    scores = neighbour_scores(rgb[1], rgb[0], k=5)
    assert found["dc605_full.pixels_density"] == scores.density
    assert found["dc605_full.pixels_coverage"] == scores.coverage
    assert found["vendi60.pixels"] == pytest.approx(vendi_score(rgb[0]))


def test_each_image_is_looked_at_once_for_all_metrics(real):
    extractors = pixel_extractors()
    measure(plan_of("fid60_full,kid60_full,pr603_full,vendi60", real, extractors=extractors))
    blocks = 2 * -(-60 // BLOCK)
    assert extractors[Role.FEATURES].seen == blocks * BLOCK


def test_a_set_against_itself(real):
    plan = plan_of("fid60_full,fid60_full_joint,pr603_full", real)
    found = values_of(evaluate(plan, real))
    assert found["fd60_full.pixels"] == pytest.approx(0, abs=1e-9)
    assert found["fd60_full_joint.pixels"] == pytest.approx(0, abs=1e-9)
    assert found["pr603_full.pixels_precision"] == found["pr603_full.pixels_recall"] == 1


def test_fid_is_earned_by_the_reference_only(real):
    names = "fid60_full,kid60_full_NIR"
    other = measure(plan_of(names, real))
    assert [result.label for result in other] == ["FD(pixels)", "KD(pixels)"]
    assert set(values_of(other)) == {"fd60_full.pixels", "kd60_full_NIR.pixels"}
    extractors = pixel_extractors(name="inception-2015-12-05", is_reference=True)
    earned = measure(plan_of(names, real, extractors=extractors))
    assert [result.label for result in earned] == ["FID", "KID"]
    assert set(values_of(earned)) == {"fid60_full", "kid60_full_NIR"}
    fake = SampledImages(Numbers(), 60)
    published = kernel_distance(features(real, "nir", 60), features(fake, "nir", 60), seed=0)
    assert values_of(earned)["kid60_full_NIR"] == pytest.approx(published.mean())


def test_heldout_images_are_measured_in_the_place_of_as_many_samples(real, tmp_path):
    heldout = folder(write_people(tmp_path / "heldout", people=5))
    names = "fid10_full,kid10_full_NIR,pr103_full,vendi10"
    results = measure(plan_of(names, real, heldout=heldout))
    alone = evaluate(plan_of(names, real), folder(tmp_path / "heldout"), None)
    for result, expected in zip(results[:3], alone[:3], strict=True):
        assert result.heldout == expected.values
    assert results[3].heldout == {}, "there is nothing that it could be compared with"
    few = folder(write_people(tmp_path / "few", people=1))
    assert measure(plan_of("pr603_full", real, heldout=few))[0].heldout == {}


@pytest.mark.parametrize("metric", parse_metrics("fid9,kid9,pr93,dc95,pr129,is20,vendi9"))
def test_the_fewest_images_have_a_number_and_fewer_have_none(metric):
    def score(count):
        rows = np.random.default_rng(0).random([count, 12]).astype(np.float32)
        rows = rows / rows.sum(axis=1, keepdims=True)  # as probabilities too
        images = FeatureSet(rows, np.arange(count) % 2)
        plan = plan_of("vendi9", None)
        return compute_scores(metric, [images, images] if metric.needs_real else [images], plan)

    assert score(metric.least)
    with pytest.raises(ValueError, match="at least"):
        score(metric.least - 1)


@pytest.mark.parametrize("metric", parse_metrics("fid9,kid9,pr93,dc95,pr129,is20,vendi9"))
def test_where_halves_are_too_few_images_there_is_a_number_without_interval(metric):
    rows = np.random.default_rng(0).random([metric.least, 12]).astype(np.float32)
    rows = rows / rows.sum(axis=1, keepdims=True)
    images = FeatureSet(rows, np.arange(metric.least))
    sets = [images, images] if metric.needs_real else [images]
    for found in compute_scores(metric, sets, plan_of("vendi9", None, replicates=5)).values():
        assert np.isfinite(found.value)
        assert (found.low is None) == (found.high is None)


def test_too_few_images_are_refused_before_any_is_looked_at(tmp_path):
    for name, whose in (("pr33_full", "its name asks for 3"), ("is9", "its name asks for 9")):
        with pytest.raises(ValueError, match=f"metric {name}: needs at least .* images, {whose}"):
            parse_metrics(name)
    few = folder(write_people(tmp_path / "set", people=1))
    with pytest.raises(ValueError, match=r"metric pr605_full: needs at least 6 images, .*has 3"):
        plan_of("pr605_full", few)


@pytest.mark.parametrize("name", ["fid60", "fid60_full"])
def test_full_names_compare_with_all_real_images(tmp_path, name):
    real = folder(write_people(tmp_path / "set", people=25))
    (result,) = measure(plan_of(name, real))
    assert result.num_real == (75 if name.endswith("full") else 60)


def test_intervals_hold_the_value(real):
    for result in measure(plan_of(ALL + ",ppl2_wend_80", real, replicates=8)):
        for name, found in result.values.items():
            assert found.low <= found.value <= found.high, name
            assert found.low < found.high, name
            assert found.low >= 0 or name.startswith("kd"), name


def test_path_lengths_of_a_linear_generator(real):
    """Images are w in all of 4x4 pixels; features average 2x2 and divide by 50."""
    (result,) = measure(plan_of("ppl2_wend_100", None), count=0)
    ((name, found),) = result.values.items()
    assert name == "ppl2_wend_100.pixels"
    # 12 features of (w1 - w0) * 127.5 / 50, whose square is 2 on average
    assert found.value == pytest.approx(12 * 2 * (127.5 / 50) ** 2, rel=0.4)
    assert found.n == 100


class TestProbabilities:
    def classes(self, images):
        return images.float().mean(dim=(2, 3)).softmax(dim=1)

    def test_inception_score(self):
        network = Extractor(name="classes", hash="c" * 64, compute=self.classes)
        plan = plan_of("is60", None, extractors={Role.PROBABILITIES: network})
        found = values_of(measure(plan))
        assert 1 <= found["is60.classes_mean"] <= 3
        assert found["is60.classes_std"] >= 0

    def test_features_are_no_probabilities(self):
        with pytest.raises(ValueError, match="needs class probabilities"):
            measure(plan_of("is60", None))


class TestCache:
    def test_real_images_are_looked_at_once(self, real, tmp_path):
        cache = FeatureCache(tmp_path)
        counts, numbers = [], []
        for _ in range(2):
            extractors = pixel_extractors()
            plan = plan_of("fid60_full,pr603_full", real, extractors=extractors, cache=cache)
            numbers.append(values_of(measure(plan)))
            counts.append(extractors[Role.FEATURES].seen)
        assert counts == [128, 64]
        assert numbers[0] == numbers[1]


class TestRefusals:
    def test_no_real_images(self):
        with pytest.raises(ValueError, match="fid60_full: needs real images"):
            plan_of("fid60_full", None)

    def test_no_generator(self, real):
        with pytest.raises(ValueError, match="ppl2_wend: needs a generator, not images"):
            evaluate(plan_of("ppl2_wend", None), real)

    def test_too_few_images(self, real):
        with pytest.raises(ValueError, match="fid2k_full: needs 2000 images, set has 60; fid60_f"):
            evaluate(plan_of("fid2k_full", real), real)

    def test_no_nir(self, real, tmp_path):
        images = write_people(tmp_path / "rgb") / "VIS"
        only_rgb = folder(images)
        rgb = dataclasses.replace(only_rgb.samples, files={"rgb": only_rgb.samples.files["rgb"]})
        with pytest.raises(ValueError, match=r"fid9_full_NIR: needs nir images, .* has rgb"):
            evaluate(plan_of("fid9_full_NIR", real), FolderImages(rgb))

    def test_nan_features(self, real):
        extractors = pixel_extractors(noise=float("nan"))
        for name in ("fid60_full", "kid60_full", "pr603_full", "vendi60"):
            with pytest.raises(ValueError, match="features must be finite"):
                measure(plan_of(name, real, extractors=extractors))

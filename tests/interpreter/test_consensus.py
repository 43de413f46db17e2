import numpy as np
import pytest
import scipy.stats
import torch

from interpreter.native import Consensus, first_argmax, uncertainty_score


def consensus_of(logits):
    members, pixels, classes = logits.shape
    result, logits = Consensus(pixels, classes), logits.transpose(1, 2)
    half = pixels // 2
    for member in range(members):  # members one by one, pixels in two strips
        part = logits[member : member + 1]
        result.add(part[..., :half], slice(0, half))
        result.add(part[..., half:], slice(half, pixels))
    return result


def test_ties_go_to_the_smallest_class():
    values = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 1.0, 5.0]])
    assert first_argmax(values, dim=1).tolist() == [1, 0, 2]


def test_the_vote_is_the_mode_of_the_members_labels():
    logits = torch.randn([5, 200, 4], generator=torch.Generator().manual_seed(0))
    labels = logits.argmax(dim=2).numpy()
    expected = scipy.stats.mode(labels, axis=0).mode  # of equal counts, the smallest
    assert np.array_equal(consensus_of(logits).labels().numpy(), expected)
    counts = np.stack([(labels == k).sum(axis=0) for k in range(4)])
    assert (np.sort(counts, axis=0)[-1] == np.sort(counts, axis=0)[-2]).any()


def test_divergence_is_entropy_of_the_mean_minus_mean_of_entropies():
    logits = 3 * torch.randn([5, 60, 4], generator=torch.Generator().manual_seed(0))
    p = logits.double().softmax(dim=2).numpy()
    expected = scipy.stats.entropy(p.mean(axis=0), axis=1) - scipy.stats.entropy(p, axis=2).mean(0)
    np.testing.assert_allclose(consensus_of(logits).divergence().numpy(), expected, atol=1e-6)


def test_members_that_agree_have_no_divergence():
    logits = torch.randn([1, 60, 4], generator=torch.Generator().manual_seed(0)).repeat(3, 1, 1)
    assert float(consensus_of(logits).divergence().abs().max()) < 1e-6


def test_divergence_of_certain_members_that_disagree():
    logits = torch.tensor([[[100.0, -100.0]] * 2, [[-100.0, 100.0]] * 2])
    expected = torch.full([2], np.log(2), dtype=torch.float32)
    torch.testing.assert_close(consensus_of(logits).divergence(), expected)


@pytest.mark.parametrize(("pixels", "top"), [(100, 10), (65536, 6553), (5, 1)])
def test_the_score_is_the_mean_of_the_top_tenth(pixels, top):
    values = torch.rand([pixels], generator=torch.Generator().manual_seed(0))
    expected = np.sort(values.numpy().astype(np.float64))[-top:].mean()
    assert uncertainty_score(values) == pytest.approx(expected, rel=1e-9)

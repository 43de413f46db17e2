"""Tensors are counted once, from their making to their end."""

import torch

from benchmarks.memory import TensorBytes


def test_views_and_the_end_of_tensors():
    with TensorBytes() as count:
        a = torch.zeros(1024)
        b = a.view(32, 32)[1:]
        a.add_(1)
        assert (count.now, count.peak) == (4096, 4096)
        c = b + 1  # 31 * 32 * 4 bytes, in blocks of 512
        assert (count.now, count.peak) == (8192, 8192)
        del a, c
        assert (count.now, count.peak) == (4096, 8192)  # the view holds the memory
        del b
        assert (count.now, count.peak) == (0, 8192)


def test_what_a_graph_keeps_for_its_backward_pass():
    with TensorBytes() as count:
        x = torch.zeros(128, requires_grad=True)
        y = x
        for _ in range(10):
            y = y.exp()  # keeps its result
        assert count.now == 11 * 512
        y.sum().backward()
        del y
        assert count.now == 2 * 512  # x and its gradient

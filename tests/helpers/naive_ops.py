"""Image operations as plain loops, written from their definition."""

import numpy as np


def upfirdn2d(x, f, up=(1, 1), down=(1, 1), padding=(0, 0, 0, 0), flip_filter=False, gain=1.0):
    """x: [N, C, H, W]; f: [T] or [h, w]; up, down: (x, y); padding: (x0, x1, y0, y1)."""
    f = np.outer(f, f) if f.ndim == 1 else f
    kernel = f if flip_filter else f[::-1, ::-1]
    n, c, h, w = x.shape
    left, right, top, bottom = padding
    height, width = h * up[1] + top + bottom, w * up[0] + left + right
    wide = np.zeros((n, c, height, width))
    for i in range(h):
        for j in range(w):
            row, column = i * up[1] + top, j * up[0] + left
            if 0 <= row < height and 0 <= column < width:
                wide[:, :, row, column] = x[:, :, i, j]
    rows = range(0, height - f.shape[0] + 1, down[1])
    columns = range(0, width - f.shape[1] + 1, down[0])
    y = np.zeros((n, c, len(rows), len(columns)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            window = wide[:, :, row : row + f.shape[0], column : column + f.shape[1]]
            y[:, :, i, j] = (window * kernel).sum((2, 3)) * gain
    return y


def conv2d(x, weight, padding=0, flip_weight=True):
    """x: [N, I, H, W]; weight: [O, I, K, K]; True is correlation."""
    kernel = weight if flip_weight else weight[:, :, ::-1, ::-1]
    size = weight.shape[2]
    wide = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    n, _, height, width = wide.shape
    y = np.zeros((n, len(weight), height - size + 1, width - size + 1))
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            window = wide[:, :, i : i + size, j : j + size]
            y[:, :, i, j] = np.tensordot(window, kernel, axes=[(1, 2, 3), (1, 2, 3)])
    return y

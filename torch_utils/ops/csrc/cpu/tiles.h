// Windows of images, tile by tile, between images and the products of an algorithm.
#pragma once

#include <cstdint>

#include "algorithms.h"
#include "vector.h"

namespace {

constexpr int kTile = 4;             // pixels of the small side, along each axis
constexpr int kPanel = 32;           // channels that lie side by side in scratch memory

template <class Matrix>
static inline Vector row_times(int row, const Vector* x, int stride) {
    Vector sum = {};
#pragma GCC unroll 9
    for (int k = 0; k < Matrix::columns; k++)
        if (Matrix::at(row, k) != 0) sum += Matrix::at(row, k) * x[k * stride];
    return sum;
}

// Call put(i, j, value) for each value of Matrix * x * Matrix^T.
template <class Matrix, class Put>
static inline void sandwich(const Vector (&x)[Matrix::columns][Matrix::columns], Put put) {
    constexpr int n = Matrix::rows, m = Matrix::columns;
    Vector half[n][m];
#pragma GCC unroll 9
    for (int j = 0; j < m; j++)
#pragma GCC unroll 9
        for (int i = 0; i < n; i++) half[i][j] = row_times<Matrix>(i, &x[0][j], m);
#pragma GCC unroll 9
    for (int i = 0; i < n; i++)
#pragma GCC unroll 9
        for (int j = 0; j < n; j++) put(i, j, row_times<Matrix>(j, half[i], 1));
}

template <class Algorithm>
constexpr int64_t all_places() {
    return int64_t(Algorithm::kPlaces) * Algorithm::kPlaces;
}

template <class Algorithm>
constexpr int64_t all_kernels() {
    return int64_t(Algorithm::kKernels) * Algorithm::kKernels;
}

// The tiles of a batch, numbered by sample, row and column.
struct Grid {
    int64_t n, height, width;  // of the small side, in pixels
    int64_t down() const { return (height + kTile - 1) / kTile; }
    int64_t across() const { return (width + kTile - 1) / kTile; }
    int64_t tiles() const { return n * down() * across(); }
};

// One of the two sides: its size and where a tile's window begins.
struct Side {
    int64_t height, width, step, margin;
};

struct Window {
    int64_t sample, y, x;  // of the first pixel, which may be outside
    Window(const Grid& grid, const Side& side, int64_t tile) {
        x = tile % grid.across() * side.step - side.margin;
        y = tile / grid.across() % grid.down() * side.step - side.margin;
        sample = tile / grid.across() / grid.down();
    }
};

// Some tiles of the grid that are handled at once, so that their scratch stays in the cache.
struct Group {
    Grid grid;
    int64_t first, count;
};

// Scratch layout of a group: [place][channels / 32][tile][32].
struct Panels {
    float* data;
    int64_t tiles, channels;
    float* at(int64_t place, int64_t channel, int64_t tile) const {
        const int64_t panel = place * (channels / kPanel) + channel / kPanel;
        return data + (panel * tiles + tile) * kPanel + channel % kPanel;
    }
    int64_t place_step() const { return tiles * channels; }
};

// Transform the window of tile t of a group; pixels outside are 0.
template <class Matrix>
static inline void read_window(const float* images, const Side& side, const Group& group,
                               const Panels& to, int64_t t) {
    constexpr int size = Matrix::columns;
    const int64_t channels = to.channels;
    const Window window(group.grid, side, group.first + t);
    const float* pixels[size][size];
    for (int i = 0; i < size; i++)
        for (int j = 0; j < size; j++) {
            const int64_t y = window.y + i, x = window.x + j;
            const bool is_inside = y >= 0 && y < side.height && x >= 0 && x < side.width;
            const int64_t pixel = (window.sample * side.height + y) * side.width + x;
            pixels[i][j] = is_inside ? images + pixel * channels : nullptr;
        }
    for (int64_t c = 0; c < channels; c += kWidth) {
        Vector values[size][size];
        for (int i = 0; i < size; i++)
            for (int j = 0; j < size; j++)
                values[i][j] = pixels[i][j] ? load(pixels[i][j] + c) : Vector{};
        float* target = to.at(0, c, t);
        sandwich<Matrix>(values, [&](int i, int j, Vector value) {
            store(target + (i * Matrix::rows + j) * to.place_step(), value);
        });
    }
}

template <class Matrix>
void read_windows(const float* images, const Side& side, const Group& group, const Panels& to,
                  int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < group.count; t++) read_window<Matrix>(images, side, group, to, t);
}

template <class Matrix>
static inline void load_places(const Panels& from, int64_t c, int64_t t,
                               Vector (&values)[Matrix::columns][Matrix::columns]) {
    const float* source = from.at(0, c, t);
    for (int i = 0; i < Matrix::columns; i++)
        for (int j = 0; j < Matrix::columns; j++)
            values[i][j] = load(source + (i * Matrix::columns + j) * from.place_step());
}

// Turn products into pixels of windows that lie side by side; what is outside is dropped.
template <class Matrix>
void write_windows(const Panels& from, const Side& side, const Group& group, float* images,
                   int threads) {
    const int64_t channels = from.channels;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < group.count; t++) {
        const Window window(group.grid, side, group.first + t);
        float* corner =
            images + ((window.sample * side.height + window.y) * side.width + window.x) * channels;
        for (int64_t c = 0; c < channels; c += kWidth) {
            Vector values[Matrix::columns][Matrix::columns];
            load_places<Matrix>(from, c, t, values);
            sandwich<Matrix>(values, [&](int i, int j, Vector value) {
                if (window.y + i < side.height && window.x + j < side.width)
                    store(corner + (i * side.width + j) * channels + c, value);
            });
        }
    }
}

// The same for windows of which neighbours share a row or column, where their values are added.
// Tiles are visited in order, so the first one to reach a pixel sets it.
template <class Matrix>
void add_windows(const Panels& from, const Side& side, const Group& group, float* images,
                 int threads) {
    const int64_t channels = from.channels;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c = 0; c < channels; c += kWidth)
        for (int64_t t = 0; t < group.count; t++) {
            const Window window(group.grid, side, group.first + t);
            float* corner = images + c +
                ((window.sample * side.height + window.y) * side.width + window.x) * channels;
            Vector values[Matrix::columns][Matrix::columns];
            load_places<Matrix>(from, c, t, values);
            sandwich<Matrix>(values, [&](int i, int j, Vector value) {
                if (window.y + i >= side.height || window.x + j >= side.width) return;
                float* to = corner + (i * side.width + j) * channels;
                const bool is_shared = (i == 0 && window.y > 0) || (j == 0 && window.x > 0);
                store(to, is_shared ? load(to) + value : value);
            });
        }
}

}  // namespace

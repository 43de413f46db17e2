// Kernels as an algorithm multiplies them, and the products themselves: small matrix products, one
// a place.
#pragma once

#include <cstdint>

#include "algorithms.h"
#include "tiles.h"
#include "vector.h"

namespace {

constexpr int kRows = kWidth == 16 ? 8 : 4;  // block of results that stays in registers
constexpr int kColumns = 2;                  // its width in vectors

// Kernels [rows, 3, 3, columns] in memory, for `multiply` with k inputs and n outputs. Where
// is_rows_k, rows are the inputs, else the outputs.
struct Taps {
    const float* data;
    int64_t n, k;
    bool is_rows_k, is_flipped;  // flipped: turned by 180 degrees
};

// To [combination of taps][n / 32][k][32].
template <class Algorithm>
void transform_kernels(const Taps& taps, float* to, int threads) {
    constexpr int combinations = Algorithm::kKernels;
    const int64_t columns = taps.is_rows_k ? taps.n : taps.k;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t n = 0; n < taps.n; n += kWidth)
        for (int64_t k = 0; k < taps.k; k += kWidth) {
            Vector values[kWidth][3][3];
            for (int tap = 0; tap < 9; tap++) {
                Vector block[kWidth];
                const int64_t row = taps.is_rows_k ? k : n, column = taps.is_rows_k ? n : k;
                const int source = taps.is_flipped ? 8 - tap : tap;
                for (int i = 0; i < kWidth; i++)
                    block[i] = load(taps.data + ((row + i) * 9 + source) * columns + column);
                if (!taps.is_rows_k) transpose(block);
                for (int i = 0; i < kWidth; i++) values[i][tap / 3][tap % 3] = block[i];
            }
            for (int i = 0; i < kWidth; i++) {
                float* target = to + (n / kPanel * taps.k + k + i) * kPanel + n % kPanel;
                sandwich<Kernel<Algorithm>>(values[i], [&](int y, int x, Vector value) {
                    store(target + (y * combinations + x) * taps.n * taps.k, value);
                });
            }
        }
}

// Add to a block of results: sum over k of a[row * row_step + k * depth_step] * b[k * 32 + column].
template <int kRowStep, int kDepthStep>
static inline void multiply_block(Vector (&sums)[kRows][kColumns], const float* a, const float* b,
                                  int64_t depth) {
    for (int64_t k = 0; k < depth; k++) {
        Vector right[kColumns];
#pragma GCC unroll 4
        for (int j = 0; j < kColumns; j++) right[j] = load(b + k * kPanel + j * kWidth);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; i++) {
            const float left = a[i * kRowStep + k * kDepthStep];
#pragma GCC unroll 4
            for (int j = 0; j < kColumns; j++) sums[i][j] += left * right[j];
        }
    }
}

static inline void store_block(const Vector (&sums)[kRows][kColumns], float* to) {
    for (int i = 0; i < kRows; i++)
        for (int j = 0; j < kColumns; j++) store(to + i * kPanel + j * kWidth, sums[i][j]);
}

// products[place] = images[place] * kernels[its combination] for `count` tiles, rounded up to
// kRows.
template <class Algorithm>
void multiply(const Panels& images, const float* kernels, const Panels& products, int64_t count,
              int threads) {
    const int64_t inputs = images.channels, panels = products.channels / kPanel;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < all_kernels<Algorithm>() * panels; task++) {
        const int64_t panel = task % panels;
        const float* right = kernels + task * inputs * kPanel;
        PlacesOf<Algorithm>(task / panels).for_each([&](int64_t place) {
            for (int64_t t = 0; t < count; t += kRows)
                for (int64_t column = 0; column < kPanel; column += kColumns * kWidth) {
                    Vector sums[kRows][kColumns] = {};
                    for (int64_t c = 0; c < inputs; c += kPanel)
                        multiply_block<kPanel, 1>(
                            sums, images.at(place, c, t), right + c * kPanel + column, kPanel);
                    store_block(sums, products.at(place, panel * kPanel, t) + column);
                }
        });
    }
}

// sums[combination][columns / 32][row][32] (+)= rows[place]^T * columns[place], over tiles and the
// combination's places.
template <class Algorithm>
void multiply_transposed(const Panels& rows, const Panels& columns, float* sums_of_all,
                         int64_t count, bool is_first, int threads) {
    const int64_t panels = columns.channels / kPanel;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < all_kernels<Algorithm>() * panels; task++) {
        const int64_t panel = task % panels;
        float* target = sums_of_all + task * rows.channels * kPanel;
        for (int64_t row = 0; row < rows.channels; row += kRows)
            for (int64_t column = 0; column < kPanel; column += kColumns * kWidth) {
                Vector sums[kRows][kColumns] = {};
                float* to = target + row * kPanel + column;
                if (!is_first)
                    for (int i = 0; i < kRows; i++)
                        for (int j = 0; j < kColumns; j++)
                            sums[i][j] = load(to + i * kPanel + j * kWidth);
                PlacesOf<Algorithm>(task / panels).for_each([&](int64_t place) {
                    const float* right = columns.at(place, panel * kPanel, 0) + column;
                    multiply_block<1, kPanel>(sums, rows.at(place, row, 0), right, count);
                });
                store_block(sums, to);
            }
    }
}

// Add the sums of all strands, one behind the other, and write [rows, 3, 3, columns].
template <class Algorithm>
void write_kernels(const float* sums, int64_t strands, int64_t rows, int64_t columns,
                   float* kernels, int threads) {
    constexpr int n = Algorithm::kKernels;
    const int64_t strand_step = n * n * rows * columns;
    // Rows are innermost: that is how the sums lie in memory.
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t c = 0; c < columns; c += kWidth)
        for (int64_t row = 0; row < rows; row++) {
            Vector values[n][n];
            const float* source = sums + (c / kPanel * rows + row) * kPanel + c % kPanel;
            for (int k = 0; k < n * n; k++) {
                const float* from = source + k * rows * columns;
                Vector sum = load(from);
                for (int64_t strand = 1; strand < strands; strand++)
                    sum += load(from + strand * strand_step);
                values[k / n][k % n] = sum;
            }
            sandwich<Transposed<Kernel<Algorithm>>>(values, [&](int i, int j, Vector value) {
                store(kernels + (row * 9 + i * 3 + j) * columns + c, value);
            });
        }
}

}  // namespace

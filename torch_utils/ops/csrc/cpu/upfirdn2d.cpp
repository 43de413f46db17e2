// upfirdn2d for the CPU in float32. Zeros that upsampling would insert are never visited.
//
// Images are [planes, height, width, inner]: inner is the number of channels where they are
// innermost, and 1 where each channel is a plane of its own.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vector.h"

namespace {

// Along one axis: the taps that reach pixels of the image, for each place in the result.
struct Reach {
    int64_t tap, pixel, count;  // first tap, first pixel, how many; taps go in steps of `up`
};

std::vector<Reach> reaches(
    int64_t size, int64_t results, int64_t taps, int64_t up, int64_t down, int64_t before) {
    std::vector<Reach> all(results);
    for (int64_t place = 0; place < results; place++) {
        const int64_t base = place * down - before;  // of tap 0, in pixels of the upsampled image
        // The first tap on a pixel of the image, not on an inserted zero or before the image.
        int64_t tap = base > 0 ? (up - base % up) % up : -base;
        const int64_t pixel = (base + tap) / up;
        const int64_t fitting = tap < taps ? (taps - tap + up - 1) / up : 0;
        all[place] = {tap, pixel, std::max<int64_t>(std::min(fitting, size - pixel), 0)};
    }
    return all;
}

// The pixels under the taps, and the taps, with the steps from row to row and column to column.
struct Window {
    const float* pixels;
    int64_t pixel_row, pixel_column;
    const float* taps;
    int64_t tap_row, tap_column;

    float tap(int64_t i, int64_t j) const { return taps[i * tap_row + j * tap_column]; }
    const float* pixel(int64_t i, int64_t j) const {
        return pixels + i * pixel_row + j * pixel_column;
    }
};

void filter_any(
    const Window& window, int64_t rows, int64_t columns, int64_t first, int64_t channels,
    float* to) {
    int64_t c = first;
    for (; c + kWidth <= channels; c += kWidth) {
        Vector sum = {};
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                sum += window.tap(i, j) * load(window.pixel(i, j) + c);
        store(to + c, sum);
    }
    for (; c < channels; c++) {
        float sum = 0;
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                sum += window.tap(i, j) * window.pixel(i, j)[c];
        to[c] = sum;
    }
}

// The same with the number of taps known, so that they stay in registers.
template <int kTapRows, int kTapColumns>
void filter_fixed(const Window& window, int64_t channels, float* to) {
    float taps[kTapRows][kTapColumns];
    for (int i = 0; i < kTapRows; i++)
        for (int j = 0; j < kTapColumns; j++) taps[i][j] = window.tap(i, j);
    int64_t c = 0;
    for (; c + kWidth <= channels; c += kWidth) {
        Vector sum = {};
#pragma GCC unroll 16
        for (int i = 0; i < kTapRows; i++)
#pragma GCC unroll 16
            for (int j = 0; j < kTapColumns; j++)
                sum += taps[i][j] * load(window.pixel(i, j) + c);
        store(to + c, sum);
    }
    filter_any(window, kTapRows, kTapColumns, c, channels, to);
}

void filter_channels(
    const Window& window, int64_t rows, int64_t columns, int64_t channels, float* to) {
    if (rows == 4 && columns == 4)
        filter_fixed<4, 4>(window, channels, to);
    else if (rows == 2 && columns == 2)
        filter_fixed<2, 2>(window, channels, to);
    else if (rows == 12 && columns == 1)
        filter_fixed<12, 1>(window, channels, to);
    else if (rows == 6 && columns == 1)
        filter_fixed<6, 1>(window, channels, to);
    else
        filter_any(window, rows, columns, 0, channels, to);
}

}  // namespace

extern "C" {

// filter [taps_y, taps_x] as it lies over the pixels (turned for a convolution, gain included).
void biface_upfirdn2d(
    const float* x, const float* filter, float* y, int64_t planes, int64_t inner, int64_t height,
    int64_t width, int64_t out_height, int64_t out_width, int64_t taps_y, int64_t taps_x,
    int64_t up_y, int64_t up_x, int64_t down_y, int64_t down_x, int64_t before_y,
    int64_t before_x, int threads) {
    const auto rows = reaches(height, out_height, taps_y, up_y, down_y, before_y);
    const auto columns = reaches(width, out_width, taps_x, up_x, down_x, before_x);
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t plane = 0; plane < planes; plane++)
        for (int64_t place_y = 0; place_y < out_height; place_y++) {
            const Reach row = rows[place_y];
            const float* source = x + (plane * height + row.pixel) * width * inner;
            float* to = y + (plane * out_height + place_y) * out_width * inner;
            for (int64_t place_x = 0; place_x < out_width; place_x++, to += inner) {
                const Reach column = columns[place_x];
                const Window window{
                    source + column.pixel * inner, width * inner, inner,
                    filter + row.tap * taps_x + column.tap, up_y * taps_x, up_x};
                filter_channels(window, row.count, column.count, inner, to);
            }
        }
}

}  // extern "C"

// The index arithmetic of upfirdn2d, per output and per tile; free of CUDA, so that tests run it.
#pragma once

#include <cstdint>

#include "portable.h"

namespace biface {

// Images are [planes, height, width, inner]: inner is the number of channels where they are
// innermost, else 1. The filter [taps_y, taps_x] is float32; it lies over the pixels as it is, or
// turned by 180 degrees, times the gain.
struct Resampling {
    int64_t planes, inner, height, width, out_height, out_width;
    int taps_y, taps_x, up_y, up_x, down_y, down_x, before_y, before_x;
    int is_turned;
    float gain;

    BIFACE_ANYWHERE float tap(const float* filter, int y, int x) const {
        const int index = y * taps_x + x;
        return filter[is_turned ? taps_y * taps_x - 1 - index : index] * gain;
    }
};

BIFACE_ANYWHERE int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Of a place in the result, along one axis: the first tap that lies on a pixel and not on an
// inserted zero, and that pixel, which may be outside the image.
template <class Index>
struct Start {
    Index pixel;
    int tap;
};

template <class Index>
BIFACE_ANYWHERE Start<Index> start_of(Index place, int up, int down, int before) {
    const Index base = place * down - before;  // of tap 0, in pixels of the enlarged image
    const Index raised = base < 0 ? (-base + up - 1) / up : 0;  // keeps the dividend positive
    const Index pixel = (base + raised * up + up - 1) / up - raised;
    return {pixel, int(pixel * up - base)};
}

// One result of any setting; Read turns an element into an S.
template <class S, class T, class Read>
BIFACE_ANYWHERE S filter_at(
    const T* x, const float* filter, const Resampling& r, int64_t element, Read read) {
    const int64_t c = element % r.inner;
    const int64_t column = element / r.inner % r.out_width;
    const int64_t row = element / (r.inner * r.out_width) % r.out_height;
    const int64_t plane = element / (r.inner * r.out_width * r.out_height);
    const auto from_y = start_of(row, r.up_y, r.down_y, r.before_y);
    const auto from_x = start_of(column, r.up_x, r.down_x, r.before_x);
    S sum = 0;
    for (int tap_y = from_y.tap; tap_y < r.taps_y; tap_y += r.up_y) {
        const int64_t y = from_y.pixel + (tap_y - from_y.tap) / r.up_y;
        if (y < 0 || y >= r.height) continue;
        for (int tap_x = from_x.tap; tap_x < r.taps_x; tap_x += r.up_x) {
            const int64_t k = from_x.pixel + (tap_x - from_x.tap) / r.up_x;
            if (k < 0 || k >= r.width) continue;
            sum += S(r.tap(filter, tap_y, tap_x)) *
                   read(x[((plane * r.height + y) * r.width + k) * r.inner + c]);
        }
    }
    return sum;
}

// A block of results that share the pixels in fast memory. Up, down and taps are at most those of
// the filter known here; a filter with fewer taps is filled up with zeros.
template <int kUpY, int kUpX, int kDownY, int kDownX, int kTapsY, int kTapsX, int kTileHeight,
          int kTileWidth, int kChannels, int kStrip>
struct Tile {
    static constexpr int kPixelsY = ((kTileHeight - 1) * kDownY + kTapsY - 1) / kUpY + 2;
    static constexpr int kPixelsX = ((kTileWidth - 1) * kDownX + kTapsX - 1) / kUpX + 2;
    static constexpr int kPixels = kPixelsY * kPixelsX * kChannels;
    static constexpr int kTaps = kTapsY * kTapsX;
    static constexpr int kStrips = kTileHeight / kStrip * kTileWidth * kChannels;
    static_assert(kTileHeight % kStrip == 0, "strips fill the tile");
    static_assert(kTapsY % kUpY == 0 && kTapsX % kUpX == 0, "each phase has the same taps");

    int64_t plane, row, column, channel;  // of the first result

    BIFACE_ANYWHERE static int64_t count(const Resampling& r) {
        return r.planes * divide_up(r.out_height, kTileHeight) *
               divide_up(r.out_width, kTileWidth) * divide_up(r.inner, kChannels);
    }

    BIFACE_ANYWHERE Tile(const Resampling& r, int64_t index) {
        const int64_t groups = divide_up(r.inner, kChannels);
        const int64_t columns = divide_up(r.out_width, kTileWidth);
        const int64_t rows = divide_up(r.out_height, kTileHeight);
        channel = index % groups * kChannels;
        column = index / groups % columns * kTileWidth;
        row = index / (groups * columns) % rows * kTileHeight;
        plane = index / (groups * columns * rows);
    }

    // First step, each thread of the block: bring filter and pixels, 0 where there are none.
    template <class T, class S, class Read>
    BIFACE_ANYWHERE void fetch(
        const T* x, const float* filter, const Resampling& r, int thread, int threads, S* pixels,
        float* taps, Read read) const {
        for (int k = thread; k < kTaps; k += threads) {
            const int y = k / kTapsX, column_of_tap = k % kTapsX;
            const bool is_tap = y < r.taps_y && column_of_tap < r.taps_x;
            taps[k] = is_tap ? r.tap(filter, y, column_of_tap) : 0.0f;
        }
        const int64_t first_y = start_of(row, kUpY, kDownY, r.before_y).pixel;
        const int64_t first_x = start_of(column, kUpX, kDownX, r.before_x).pixel;
        const T* plane_of_x = x + plane * r.height * r.width * r.inner + channel;
        for (int k = thread; k < kPixels; k += threads) {
            const int c = k % kChannels;
            const int64_t px = first_x + k / kChannels % kPixelsX;
            const int64_t py = first_y + k / (kChannels * kPixelsX);
            const bool is_there = px >= 0 && px < r.width && py >= 0 && py < r.height &&
                                  channel + c < r.inner;
            pixels[k] = is_there ? S(read(plane_of_x[(py * r.width + px) * r.inner + c])) : S(0);
        }
    }

    // Second step, when all threads are done with the first: filter strips of results.
    template <class T, class S, class Write>
    BIFACE_ANYWHERE void filter_strips(
        T* y, const Resampling& r, int thread, int threads, const S* pixels, const float* taps,
        Write write) const {
        const int lead_y = start_of(row, kUpY, kDownY, r.before_y).tap;
        const int lead_x = start_of(column, kUpX, kDownX, r.before_x).tap;
        for (int index = thread; index < kStrips; index += threads) {
            const int c = index % kChannels;
            const int column_in_tile = index / kChannels % kTileWidth;
            const int row_in_tile = index / (kChannels * kTileWidth) * kStrip;
            // Places, and pixels from the first one of the tile on, are small numbers here.
            const auto at_x = start_of<int>(column_in_tile, kUpX, kDownX, lead_x);
            S sums[kStrip];
            for (int k = 0; k < kStrip; k++) {
                const auto at_y = start_of<int>(row_in_tile + k, kUpY, kDownY, lead_y);
                S sum = 0;
                for (int i = 0; i < kTapsY / kUpY; i++)
                    for (int j = 0; j < kTapsX / kUpX; j++)
                        sum += S(taps[(at_y.tap + i * kUpY) * kTapsX + at_x.tap + j * kUpX]) *
                               pixels[((at_y.pixel + i) * kPixelsX + at_x.pixel + j) * kChannels + c];
                sums[k] = sum;
            }
            const int64_t out_column = column + column_in_tile, out_channel = channel + c;
            for (int k = 0; k < kStrip; k++) {
                const int64_t out_row = row + row_in_tile + k;
                if (out_row < r.out_height && out_column < r.out_width && out_channel < r.inner)
                    write(
                        y[((plane * r.out_height + out_row) * r.out_width + out_column) * r.inner +
                          out_channel],
                        sums[k]);
            }
        }
    }
};

// The tiles of the filters that StyleGAN2 uses. Contiguous images, then channels innermost.
using SmoothPlane = Tile<1, 1, 1, 1, 4, 4, 32, 32, 1, 4>;
using EnlargePlane = Tile<2, 2, 1, 1, 4, 4, 32, 32, 1, 4>;
using ShrinkPlane = Tile<1, 1, 2, 2, 4, 4, 32, 32, 1, 4>;
using SmoothChannels = Tile<1, 1, 1, 1, 4, 4, 8, 16, 32, 4>;
using EnlargeChannels = Tile<2, 2, 1, 1, 4, 4, 8, 16, 32, 4>;
using ShrinkChannels = Tile<1, 1, 2, 2, 4, 4, 8, 8, 32, 4>;
// One axis of the augmentation's filter of 12 taps.
using EnlargeRows = Tile<1, 2, 1, 1, 1, 12, 16, 64, 1, 4>;
using EnlargeColumns = Tile<2, 1, 1, 1, 12, 1, 32, 32, 1, 4>;
using ShrinkRows = Tile<1, 1, 1, 2, 1, 12, 16, 64, 1, 4>;
using ShrinkColumns = Tile<1, 1, 2, 1, 12, 1, 32, 32, 1, 4>;

// Whether a tile computes a setting: equal factors, and as many taps or fewer.
template <int kUpY, int kUpX, int kDownY, int kDownX, int kTapsY, int kTapsX, int kTileHeight,
          int kTileWidth, int kChannels, int kStrip>
BIFACE_ANYWHERE bool is_fit(
    const Resampling& r, Tile<kUpY, kUpX, kDownY, kDownX, kTapsY, kTapsX, kTileHeight, kTileWidth,
                              kChannels, kStrip>*) {
    const bool is_layout = kChannels == 1 ? r.inner == 1 : r.inner >= kChannels / 2;
    return is_layout && r.up_y == kUpY && r.up_x == kUpX && r.down_y == kDownY &&
           r.down_x == kDownX && r.taps_y <= kTapsY && r.taps_x <= kTapsX;
}

// Call function(tile pointer) for the first tile that fits; false where none does.
template <class Function, class First, class... Rest>
bool for_fitting(const Resampling& r, Function function, First* first, Rest*... rest) {
    if (is_fit(r, first)) {
        function(first);
        return true;
    }
    if constexpr (sizeof...(Rest) > 0) return for_fitting(r, function, rest...);
    return false;
}

template <class Function>
bool for_tile(const Resampling& r, Function function) {
    return for_fitting(
        r, function, (SmoothPlane*)nullptr, (EnlargePlane*)nullptr, (ShrinkPlane*)nullptr,
        (SmoothChannels*)nullptr, (EnlargeChannels*)nullptr, (ShrinkChannels*)nullptr,
        (EnlargeRows*)nullptr, (EnlargeColumns*)nullptr, (ShrinkRows*)nullptr,
        (ShrinkColumns*)nullptr);
}

}  // namespace biface

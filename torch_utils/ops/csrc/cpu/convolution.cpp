// 3x3 convolution of stride 1 and 2, its adjoint and its derivative by the kernels, for the CPU,
// with a quarter (stride 1) or half (stride 2) of the usual multiplications; see algorithms.h.
//
// The three are one trilinear form of large images, small images and kernels. Images are
// [N, H, W, C] float32 with channels in multiples of 32. The small side has H x W pixels; the large
// side as many for stride 1, whose border is padded with zeros, and (2H + 1) x (2W + 1) for stride
// 2. Sums run in an order that depends neither on the number of threads nor on other samples.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "algorithms.h"
#include "products.h"
#include "tiles.h"

namespace {

constexpr int64_t kGroupFloats = 2 << 20;    // scratch for a group of tiles
constexpr int64_t kMinStrandTiles = 64;      // fewer read the kernels too often
constexpr int64_t kSumFloats = 5 << 20;      // scratch for sums over the tiles of a strand
constexpr int64_t kMaxSums = 4;

// Scratch memory of a thread that calls; it grows as needed and is kept.
class Scratch {
public:
    ~Scratch() { std::free(memory_); }
    float* get(int64_t floats) {
        if (floats > size_) {
            std::free(memory_);
            size_ = 0;
            const size_t bytes = (floats * sizeof(float) + 63) / 64 * 64;
            memory_ = static_cast<float*>(std::aligned_alloc(64, bytes));
            if (memory_ == nullptr) throw std::bad_alloc();
            size_ = floats;
        }
        return memory_;
    }

private:
    float* memory_ = nullptr;
    int64_t size_ = 0;
};

thread_local Scratch scratch;

// Scratch memory of a call: transformed kernels, and for each strand the panels of a group on both
// sides. A strand is a run of tiles that one thread works through.
struct Memory {
    float* kernels;
    float* panels;
    int64_t places, n_inputs, n_outputs, group;

    template <class Algorithm>
    static Memory get(const Grid& grid, int64_t n_inputs, int64_t n_outputs, int64_t strands,
                      int64_t copies_of_kernels = 1) {
        const int64_t places = all_places<Algorithm>(), channels = n_inputs + n_outputs;
        const int64_t fitting = std::max<int64_t>(kGroupFloats / (places * channels) / 8 * 8, 8);
        const int64_t group = std::min(fitting, (grid.tiles() + 7) / 8 * 8);
        const int64_t kernel_floats =
            copies_of_kernels * all_kernels<Algorithm>() * n_inputs * n_outputs;
        float* start = scratch.get(kernel_floats + strands * places * group * channels);
        return {start, start + kernel_floats, places, n_inputs, n_outputs, group};
    }

    Panels inputs(int64_t strand) const {
        return {panels + strand * places * group * (n_inputs + n_outputs), group, n_inputs};
    }

    Panels outputs(int64_t strand) const {
        return {inputs(strand).data + places * group * n_inputs, group, n_outputs};
    }
};

template <class Algorithm>
Side small_side(const Grid& grid) {
    return {grid.height, grid.width, kTile, 0};
}

template <class Algorithm>
Side large_side(const Grid& grid) {
    constexpr int more = Algorithm::kStep - 1;
    return {grid.height * Algorithm::kStep + more, grid.width * Algorithm::kStep + more,
            kTile * Algorithm::kStep, Algorithm::kMargin};
}

template <class Function>
void for_groups(const Grid& grid, int64_t first, int64_t end, int64_t size, Function function) {
    for (; first < end; first += size) function(Group{grid, first, std::min(size, end - first)});
}

// How many strands: one a thread where that leaves each enough tiles, else one of which all threads
// share each step. Strands begin at multiples of `unit` tiles.
int64_t count_strands(const Grid& grid, int64_t unit, int threads) {
    const bool is_enough =
        grid.tiles() / unit >= threads && grid.tiles() / threads >= kMinStrandTiles;
    return is_enough ? threads : 1;
}

// Call function(strand, group, threads) for all groups of all strands. Strands run side by side
// where there are enough of them, else one after the other.
template <class Function>
void for_strands(const Grid& grid, int64_t unit, int64_t strands, int64_t group, int threads,
                 Function function) {
    const int64_t units = grid.tiles() / unit;
    const auto run = [&](int64_t strand, int inner_threads) {
        for_groups(
            grid, units * strand / strands * unit, units * (strand + 1) / strands * unit, group,
            [&](const Group& some) { function(strand, some, inner_threads); });
    };
    if (strands < threads) {
        // No parallel region around these: OpenMP would start new threads for each one inside.
        for (int64_t strand = 0; strand < strands; strand++) run(strand, threads);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t strand = 0; strand < strands; strand++) run(strand, 1);
}

// From the large side to the small one.
template <class Algorithm>
void convolve(const float* x, const Taps& taps, float* y, const Grid& grid, int threads) {
    const int64_t strands = count_strands(grid, 1, threads);
    const Memory memory = Memory::get<Algorithm>(grid, taps.k, taps.n, strands);
    transform_kernels<Algorithm>(taps, memory.kernels, threads);
    const Side large = large_side<Algorithm>(grid), small = small_side<Algorithm>(grid);
    for_strands(
        grid, 1, strands, memory.group, threads,
        [&](int64_t strand, const Group& group, int inner_threads) {
            const Panels inputs = memory.inputs(strand), outputs = memory.outputs(strand);
            read_windows<Image<Algorithm>>(x, large, group, inputs, inner_threads);
            multiply<Algorithm>(inputs, memory.kernels, outputs, group.count, inner_threads);
            write_windows<Out<Algorithm>>(outputs, small, group, y, inner_threads);
        });
}

// From the small side to the large one. Tiles of a sample share pixels: one strand has them all.
template <class Algorithm>
void convolve_adjoint(const float* y, const Taps& taps, float* x, const Grid& grid, int threads) {
    const int64_t unit = grid.down() * grid.across();
    const int64_t strands = count_strands(grid, unit, threads);
    const Memory memory = Memory::get<Algorithm>(grid, taps.k, taps.n, strands);
    transform_kernels<Algorithm>(taps, memory.kernels, threads);
    const Side large = large_side<Algorithm>(grid), small = small_side<Algorithm>(grid);
    for_strands(
        grid, unit, strands, memory.group, threads,
        [&](int64_t strand, const Group& group, int inner_threads) {
            const Panels inputs = memory.inputs(strand), outputs = memory.outputs(strand);
            read_windows<Transposed<Out<Algorithm>>>(y, small, group, inputs, inner_threads);
            multiply<Algorithm>(inputs, memory.kernels, outputs, group.count, inner_threads);
            add_windows<Transposed<Image<Algorithm>>>(outputs, large, group, x, inner_threads);
        });
}

// How many strands have sums of their own. It must not depend on the threads, since the order of
// additions does on it.
int64_t count_sums(const Grid& grid, int64_t floats) {
    const int64_t fitting = std::min(kSumFloats / floats, grid.tiles() / kMinStrandTiles);
    return std::max<int64_t>(std::min<int64_t>(fitting, kMaxSums), 1);
}

template <class Algorithm>
void convolve_kernels(const float* large, const float* small, float* kernels, const Grid& grid,
                      int64_t large_channels, int64_t small_channels, bool is_large_in_rows,
                      int threads) {
    const int64_t floats = all_kernels<Algorithm>() * large_channels * small_channels;
    const int64_t strands = count_sums(grid, floats);
    const Memory memory =
        Memory::get<Algorithm>(grid, large_channels, small_channels, strands, strands);
    const Side large_part = large_side<Algorithm>(grid), small_part = small_side<Algorithm>(grid);
    for_strands(
        grid, 1, strands, memory.group, threads,
        [&](int64_t strand, const Group& group, int inner_threads) {
            const Panels from_large = memory.inputs(strand), from_small = memory.outputs(strand);
#pragma omp parallel for num_threads(inner_threads) schedule(static)
            for (int64_t t = 0; t < group.count; t++) {
                read_window<Image<Algorithm>>(large, large_part, group, from_large, t);
                read_window<Transposed<Out<Algorithm>>>(small, small_part, group, from_small, t);
            }
            const Panels& rows = is_large_in_rows ? from_large : from_small;
            const Panels& columns = is_large_in_rows ? from_small : from_large;
            const bool is_first = group.first == grid.tiles() * strand / strands;
            multiply_transposed<Algorithm>(
                rows, columns, memory.kernels + strand * floats, group.count, is_first,
                inner_threads);
        });
    const int64_t rows = is_large_in_rows ? large_channels : small_channels;
    const int64_t columns = is_large_in_rows ? small_channels : large_channels;
    write_kernels<Algorithm>(memory.kernels, strands, rows, columns, kernels, threads);
}

}  // namespace

extern "C" {

// Correlate images with kernels, or do the adjoint. height and width are the small side's. In
// memory kernels are [rows, 3, 3, columns]; rows are `inputs` of this call where is_rows_inputs,
// else its `outputs`. Returns 0, or 1 without memory.
int biface_convolve(const float* x, const float* kernels, float* y, int64_t n, int64_t height,
                    int64_t width, int64_t inputs, int64_t outputs, int stride, int is_adjoint,
                    int is_rows_inputs, int threads) {
    try {
        const Grid grid{n, height, width};
        // Of stride 1 the adjoint is the convolution with turned kernels, which is faster.
        const bool is_flipped = stride == 1 && is_adjoint;
        const Taps taps{kernels, outputs, inputs, is_rows_inputs != 0, is_flipped};
        if (stride == 1)
            convolve<Stride1>(x, taps, y, grid, threads);
        else if (is_adjoint)
            convolve_adjoint<Stride2>(x, taps, y, grid, threads);
        else
            convolve<Stride2>(x, taps, y, grid, threads);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

// The derivative of sum(convolve(large, kernels) * small) by the kernels, [rows, 3, 3, columns]:
// rows are the channels of the large side where is_large_in_rows, else those of the small side.
int biface_convolve_kernels(const float* large, const float* small, float* kernels, int64_t n,
                            int64_t height, int64_t width, int64_t large_channels,
                            int64_t small_channels, int stride, int is_large_in_rows,
                            int threads) {
    try {
        const Grid grid{n, height, width};
        const auto run = stride == 1 ? convolve_kernels<Stride1> : convolve_kernels<Stride2>;
        run(large, small, kernels, grid, large_channels, small_channels, is_large_in_rows != 0,
            threads);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // extern "C"

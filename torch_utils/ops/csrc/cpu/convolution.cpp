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
#include "vector.h"

namespace {

constexpr int kTile = 4;             // pixels of the small side, along each axis
constexpr int kPanel = 32;           // channels that lie side by side in scratch memory
constexpr int kRows = kWidth == 16 ? 8 : 4;  // block of results that stays in registers
constexpr int kColumns = 2;                  // its width in vectors
constexpr int64_t kGroupFloats = 2 << 20;    // scratch for a group of tiles
constexpr int64_t kMinStrandTiles = 64;      // fewer read the kernels too often

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

// Transform the window of each tile; pixels outside are 0.
template <class Matrix>
void read_windows(const float* images, const Side& side, const Group& group, const Panels& to,
                  int threads) {
    constexpr int size = Matrix::columns;
    const int64_t channels = to.channels;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < group.count; t++) {
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

// products[place] = images[place] * kernels[its combination] for `count` tiles, rounded up to kRows.
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
                         const Group& group, int threads) {
    const int64_t panels = columns.channels / kPanel;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < all_kernels<Algorithm>() * panels; task++) {
        const int64_t panel = task % panels;
        float* target = sums_of_all + task * rows.channels * kPanel;
        for (int64_t row = 0; row < rows.channels; row += kRows)
            for (int64_t column = 0; column < kPanel; column += kColumns * kWidth) {
                Vector sums[kRows][kColumns] = {};
                float* to = target + row * kPanel + column;
                if (group.first > 0)
                    for (int i = 0; i < kRows; i++)
                        for (int j = 0; j < kColumns; j++)
                            sums[i][j] = load(to + i * kPanel + j * kWidth);
                PlacesOf<Algorithm>(task / panels).for_each([&](int64_t place) {
                    const float* right = columns.at(place, panel * kPanel, 0) + column;
                    multiply_block<1, kPanel>(sums, rows.at(place, row, 0), right, group.count);
                });
                store_block(sums, to);
            }
    }
}

// To [rows, 3, 3, columns].
template <class Algorithm>
void write_kernels(const float* sums, int64_t rows, int64_t columns, float* kernels, int threads) {
    constexpr int n = Algorithm::kKernels;
    // Rows are innermost: that is how the sums lie in memory.
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t c = 0; c < columns; c += kWidth)
        for (int64_t row = 0; row < rows; row++) {
            Vector values[n][n];
            const float* source = sums + (c / kPanel * rows + row) * kPanel + c % kPanel;
            for (int k = 0; k < n * n; k++)
                values[k / n][k % n] = load(source + k * rows * columns);
            sandwich<Transposed<Kernel<Algorithm>>>(values, [&](int i, int j, Vector value) {
                store(kernels + (row * 9 + i * 3 + j) * columns + c, value);
            });
        }
}

// Scratch memory of a call: transformed kernels, and for each strand the panels of a group on both
// sides. A strand is a run of tiles that one thread works through.
struct Memory {
    float* kernels;
    float* panels;
    int64_t places, n_inputs, n_outputs, group;

    template <class Algorithm>
    static Memory get(const Grid& grid, int64_t n_inputs, int64_t n_outputs, int64_t strands) {
        const int64_t places = all_places<Algorithm>(), channels = n_inputs + n_outputs;
        const int64_t fitting = std::max<int64_t>(kGroupFloats / (places * channels) / 8 * 8, 8);
        const int64_t group = std::min(fitting, (grid.tiles() + 7) / 8 * 8);
        const int64_t kernel_floats = all_kernels<Algorithm>() * n_inputs * n_outputs;
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

// Call function(strand, group, threads) for all groups of all strands.
template <class Function>
void for_strands(const Grid& grid, int64_t unit, int64_t strands, int64_t group, int threads,
                 Function function) {
    const int64_t units = grid.tiles() / unit;
    const int inner_threads = strands > 1 ? 1 : threads;
#pragma omp parallel for num_threads(int(strands)) schedule(static)
    for (int64_t strand = 0; strand < strands; strand++)
        for_groups(
            grid, units * strand / strands * unit, units * (strand + 1) / strands * unit, group,
            [&](const Group& some) { function(strand, some, inner_threads); });
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

// Groups follow each other, so that the sums do not depend on the threads.
template <class Algorithm>
void convolve_kernels(const float* large, const float* small, float* kernels, const Grid& grid,
                      int64_t large_channels, int64_t small_channels, bool is_large_in_rows,
                      int threads) {
    const Memory memory = Memory::get<Algorithm>(grid, large_channels, small_channels, 1);
    const Panels from_large = memory.inputs(0), from_small = memory.outputs(0);
    const Panels& rows = is_large_in_rows ? from_large : from_small;
    const Panels& columns = is_large_in_rows ? from_small : from_large;
    for_groups(grid, 0, grid.tiles(), memory.group, [&](const Group& group) {
        read_windows<Image<Algorithm>>(
            large, large_side<Algorithm>(grid), group, from_large, threads);
        read_windows<Transposed<Out<Algorithm>>>(
            small, small_side<Algorithm>(grid), group, from_small, threads);
        multiply_transposed<Algorithm>(rows, columns, memory.kernels, group, threads);
    });
    write_kernels<Algorithm>(memory.kernels, rows.channels, columns.channels, kernels, threads);
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

// upfirdn2d on CUDA: tiles in shared memory for the usual filters, one thread a result for others.

#include <algorithm>
#include <type_traits>

#include "scalars.h"
#include "upfirdn2d_body.h"

namespace biface {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;  // each block goes on to further tiles or results

struct Reader {
    template <class T>
    __device__ __forceinline__ auto operator()(T x) const {
        return read(x);
    }
};

struct Writer {
    template <class T, class S>
    __device__ __forceinline__ void operator()(T& to, S x) const {
        write(to, x);
    }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    any_kernel(const T* x, const float* filter, T* y, Resampling r) {
    using S = typename Compute<T>::type;
    const int64_t results = r.planes * r.out_height * r.out_width * r.inner;
    const int64_t step = int64_t(gridDim.x) * kThreads;
    for (int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x; k < results; k += step)
        write(y[k], filter_at<S>(x, filter, r, k, Reader{}));
}

template <class OneTile, class T>
__global__ void __launch_bounds__(kThreads)
    tile_kernel(const T* x, const float* filter, T* y, Resampling r) {
    __shared__ float pixels[OneTile::kPixels];
    __shared__ float taps[OneTile::kTaps];
    const int64_t tiles = OneTile::count(r);
    for (int64_t index = blockIdx.x; index < tiles; index += gridDim.x) {
        const OneTile tile(r, index);
        tile.fetch(x, filter, r, threadIdx.x, kThreads, pixels, taps, Reader{});
        __syncthreads();
        tile.filter_strips(y, r, threadIdx.x, kThreads, pixels, taps, Writer{});
        __syncthreads();
    }
}

template <class T>
cudaError_t launch(const T* x, const float* filter, T* y, const Resampling& r, cudaStream_t stream) {
    if constexpr (!std::is_same<T, double>::value) {  // doubles are for tests only
        const bool is_tiled = for_tile(r, [&](auto* tile) {
            using OneTile = std::remove_pointer_t<decltype(tile)>;
            const int blocks = int(std::min(OneTile::count(r), kMaxBlocks));
            tile_kernel<OneTile, T><<<blocks, kThreads, 0, stream>>>(x, filter, y, r);
        });
        if (is_tiled) return cudaGetLastError();
    }
    const int64_t results = r.planes * r.out_height * r.out_width * r.inner;
    const int blocks = int(std::min(divide_up(results, kThreads), kMaxBlocks));
    any_kernel<T><<<blocks, kThreads, 0, stream>>>(x, filter, y, r);
    return cudaGetLastError();
}

}  // namespace
}  // namespace biface

// Returns a cudaError_t. The filter lies on the device; see Resampling for the rest.
extern "C" int biface_cuda_upfirdn2d(
    int scalar, const void* x, const float* filter, void* y, int64_t planes, int64_t inner,
    int64_t height, int64_t width, int64_t out_height, int64_t out_width, int taps_y, int taps_x,
    int up_y, int up_x, int down_y, int down_x, int before_y, int before_x, int is_turned,
    float gain, void* stream) {
    using namespace biface;
    if (planes * inner * out_height * out_width == 0) return cudaSuccess;
    const Resampling r{planes, inner, height, width, out_height, out_width, taps_y, taps_x, up_y, up_x,
                       down_y, down_x, before_y, before_x, is_turned, gain};
    return for_scalar(scalar, [&](auto zero) {
        using T = decltype(zero);
        return launch<T>(
            static_cast<const T*>(x), filter, static_cast<T*>(y), r,
            static_cast<cudaStream_t>(stream));
    });
}

extern "C" const char* biface_cuda_error(int code) {
    return cudaGetErrorString(static_cast<cudaError_t>(code));
}

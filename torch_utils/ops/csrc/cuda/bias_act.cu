// bias_act on CUDA: one pass over memory, vectors of 16 bytes where alignment and shape allow.

#include <algorithm>

#include "bias_act_body.h"
#include "scalars.h"

namespace biface {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxBlocks = 1 << 16;  // each thread goes on to further elements
constexpr int kVectorBytes = 16;

template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
    T values[kCount];
};

template <class T>
struct BiasActTensors {
    const T *x, *bias, *factor;  // bias and factor may be null
    T* out;
};

// Elements of a pack share a channel, or are consecutive channels: kPack divides inner, or inner
// is 1 and kPack divides channels.
template <int kAct, int kOrder, int kPack, class Index, class T>
__global__ void __launch_bounds__(kThreads) bias_act_kernel(
    BiasActTensors<T> tensors, BiasActShape shape,
    BiasActSetting<typename Compute<T>::type> setting) {
    using S = typename Compute<T>::type;
    using Values = Pack<T, kPack>;
    const Index channels = Index(shape.channels), inner = Index(shape.inner);
    const Index packs = Index(shape.size / kPack), step = Index(gridDim.x) * kThreads;
    const Index channel_step = inner == 1 ? 1 : 0;
    for (Index pack = Index(blockIdx.x) * kThreads + threadIdx.x; pack < packs; pack += step) {
        const Values x = reinterpret_cast<const Values*>(tensors.x)[pack];
        Values factor, out;
        if (kOrder > 0) factor = reinterpret_cast<const Values*>(tensors.factor)[pack];
        const Index channel =
            tensors.bias == nullptr ? 0 : channel_of<Index>(pack * kPack, channels, inner);
#pragma unroll
        for (int k = 0; k < kPack; k++) {
            const S bias =
                tensors.bias == nullptr ? S(0) : read(tensors.bias[channel + k * channel_step]);
            const S times = kOrder > 0 ? read(factor.values[k]) : S(1);
            write(
                out.values[k],
                bias_act_element<kAct, kOrder>(read(x.values[k]), bias, times, setting));
        }
        reinterpret_cast<Values*>(tensors.out)[pack] = out;
    }
}

template <int kAct, int kOrder, int kPack, class Index, class T>
cudaError_t launch(
    const BiasActTensors<T>& tensors, const BiasActShape& shape,
    const BiasActSetting<typename Compute<T>::type>& setting, cudaStream_t stream) {
    const int64_t packs = shape.size / kPack;
    const int blocks = int(std::min<int64_t>((packs + kThreads - 1) / kThreads, kMaxBlocks));
    bias_act_kernel<kAct, kOrder, kPack, Index, T>
        <<<blocks, kThreads, 0, stream>>>(tensors, shape, setting);
    return cudaGetLastError();
}

template <class T>
bool can_pack(const BiasActTensors<T>& tensors, const BiasActShape& shape, int count) {
    const int64_t run = shape.inner == 1 ? shape.channels : shape.inner;
    const auto is_aligned = [](const void* pointer) {
        return reinterpret_cast<uintptr_t>(pointer) % kVectorBytes == 0;
    };
    return run % count == 0 && is_aligned(tensors.x) && is_aligned(tensors.factor) &&
           is_aligned(tensors.out);
}

template <int kAct, int kOrder, class T>
cudaError_t choose_width(
    const BiasActTensors<T>& tensors, const BiasActShape& shape,
    const BiasActSetting<typename Compute<T>::type>& setting, cudaStream_t stream) {
    constexpr int pack = kVectorBytes / sizeof(T);
    // The last index plus one step of the whole grid must fit.
    const bool is_small = shape.size < (int64_t(1) << 30);
    if (!is_small) return launch<kAct, kOrder, 1, int64_t>(tensors, shape, setting, stream);
    if (can_pack(tensors, shape, pack))
        return launch<kAct, kOrder, pack, int32_t>(tensors, shape, setting, stream);
    return launch<kAct, kOrder, 1, int32_t>(tensors, shape, setting, stream);
}

template <int kAct, class T>
cudaError_t choose_order(
    int order, const BiasActTensors<T>& tensors, const BiasActShape& shape,
    const BiasActSetting<typename Compute<T>::type>& setting, cudaStream_t stream) {
    switch (order) {
        case 0: return choose_width<kAct, 0>(tensors, shape, setting, stream);
        case 1: return choose_width<kAct, 1>(tensors, shape, setting, stream);
        default: break;
    }
    if constexpr (kAct > kLrelu)  // the others have no curvature
        if (order == 2) return choose_width<kAct, 2>(tensors, shape, setting, stream);
    return cudaErrorInvalidValue;
}

template <class T>
cudaError_t choose_act(
    int act, int order, const BiasActTensors<T>& tensors, const BiasActShape& shape,
    const BiasActSetting<typename Compute<T>::type>& setting, cudaStream_t stream) {
    switch (act) {
        case kLinear: return choose_order<kLinear>(order, tensors, shape, setting, stream);
        case kRelu: return choose_order<kRelu>(order, tensors, shape, setting, stream);
        case kLrelu: return choose_order<kLrelu>(order, tensors, shape, setting, stream);
        case kTanh: return choose_order<kTanh>(order, tensors, shape, setting, stream);
        case kSigmoid: return choose_order<kSigmoid>(order, tensors, shape, setting, stream);
        case kElu: return choose_order<kElu>(order, tensors, shape, setting, stream);
        case kSelu: return choose_order<kSelu>(order, tensors, shape, setting, stream);
        case kSoftplus: return choose_order<kSoftplus>(order, tensors, shape, setting, stream);
        case kSwish: return choose_order<kSwish>(order, tensors, shape, setting, stream);
        default: return cudaErrorInvalidValue;
    }
}

}  // namespace
}  // namespace biface

// Returns a cudaError_t. All tensors have the type `scalar` and lie densely in the same order.
extern "C" int biface_cuda_bias_act(
    int scalar, int act, int order, const void* x, const void* bias, const void* factor, void* out,
    int64_t size, int64_t channels, int64_t inner, double alpha, double gain, double clamp,
    void* stream) {
    using namespace biface;
    if (size == 0) return cudaSuccess;
    return for_scalar(scalar, [&](auto zero) {
        using T = decltype(zero);
        using S = typename Compute<T>::type;
        const BiasActTensors<T> tensors{
            static_cast<const T*>(x), static_cast<const T*>(bias), static_cast<const T*>(factor),
            static_cast<T*>(out)};
        return choose_act<T>(
            act, order, tensors, BiasActShape{size, channels, inner},
            BiasActSetting<S>{S(alpha), S(gain), S(clamp)}, static_cast<cudaStream_t>(stream));
    });
}

extern "C" const char* biface_cuda_error(int code) {
    return cudaGetErrorString(static_cast<cudaError_t>(code));
}

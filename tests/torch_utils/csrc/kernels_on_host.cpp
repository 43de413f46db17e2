// Runs the bodies of the CUDA kernels on the host, block by block and thread by thread.

#include <vector>

#include "bias_act_body.h"
#include "upfirdn2d_body.h"

using namespace biface;

namespace {

struct Read {
    template <class T>
    T operator()(T x) const {
        return x;
    }
};

struct Write {
    template <class T, class S>
    void operator()(T& to, S x) const {
        to = T(x);
    }
};

template <int kAct>
double element(int order, double x, double bias, double factor, const BiasActSetting<double>& s) {
    if (order == 0) return bias_act_element<kAct, 0>(x, bias, factor, s);
    if (order == 1) return bias_act_element<kAct, 1>(x, bias, factor, s);
    return bias_act_element<kAct, 2>(x, bias, factor, s);
}

using Element = double (*)(int, double, double, double, const BiasActSetting<double>&);

constexpr Element kElements[] = {
    element<kLinear>, element<kRelu>, element<kLrelu>,    element<kTanh>, element<kSigmoid>,
    element<kElu>,    element<kSelu>, element<kSoftplus>, element<kSwish>};

}  // namespace

extern "C" {

void host_bias_act(
    int act, int order, const double* x, const double* bias, const double* factor, double* out,
    int64_t size, int64_t channels, int64_t inner, double alpha, double gain, double clamp) {
    const BiasActSetting<double> setting{alpha, gain, clamp};
    for (int64_t k = 0; k < size; k++) {
        const double shift = bias ? bias[channel_of<int64_t>(k, channels, inner)] : 0;
        out[k] = kElements[act](order, x[k], shift, factor ? factor[k] : 1, setting);
    }
}

// Returns the number of tiles, or 0 where one thread a result did the work.
int64_t host_upfirdn2d(
    const float* x, const float* filter, float* y, int64_t planes, int64_t inner, int64_t height,
    int64_t width, int64_t out_height, int64_t out_width, int taps_y, int taps_x, int up_y,
    int up_x, int down_y, int down_x, int before_y, int before_x, int is_turned,
    float gain, int is_tiled) {
    const Resampling r{planes, inner, height, width, out_height, out_width, taps_y, taps_x, up_y, up_x,
                       down_y, down_x, before_y, before_x, is_turned, gain};
    int64_t tiles = 0;
    const auto run = [&](auto* type) {
        using OneTile = std::remove_pointer_t<decltype(type)>;
        constexpr int threads = 64;
        std::vector<float> pixels(OneTile::kPixels, NAN), taps(OneTile::kTaps, NAN);
        tiles = OneTile::count(r);
        for (int64_t index = 0; index < tiles; index++) {
            const OneTile tile(r, index);
            for (int thread = 0; thread < threads; thread++)
                tile.fetch(
                    x, filter, r, thread, threads, pixels.data(), taps.data(), Read{});
            for (int thread = 0; thread < threads; thread++)
                tile.filter_strips(
                    y, r, thread, threads, pixels.data(), taps.data(), Write{});
        }
    };
    if (is_tiled && for_tile(r, run)) return tiles;
    for (int64_t k = 0; k < planes * inner * out_height * out_width; k++)
        y[k] = filter_at<float>(x, filter, r, k, Read{});
    return 0;
}

}  // extern "C"

// bias_act for the CPU: linear and leaky ReLU in float32, forward and derivative in one pass.
//
// A tensor is [outer, channels, inner] in memory: inner is 1 where channels are innermost.

#include <algorithm>
#include <cstdint>

namespace {

constexpr int64_t kChunk = 1 << 14;  // values that a thread handles at once

struct Activation {
    float slope, gain, clamp;  // clamp < 0: none

    float value(float x) const {
        const float y = (x > 0 ? x : x * slope) * gain;
        return clamp < 0 ? y : y > clamp ? clamp : y < -clamp ? -clamp : y;
    }

    // The factor that a gradient takes, from the result y. Needs slope > 0 and gain > 0.
    float derivative(float y) const {
        const float factor = y > 0 ? gain : gain * slope;
        const bool is_inside = clamp < 0 || (y < clamp && y > -clamp);
        return is_inside ? factor : 0;
    }
};

// Rows of `width` values share nothing or a bias that runs along them.
struct Rows {
    int64_t count, width, each;  // each: rows a chunk
    explicit Rows(int64_t rows, int64_t row_width)
        : count(rows), width(row_width), each(std::max<int64_t>(kChunk / row_width, 1)) {}
    int64_t chunks() const { return (count + each - 1) / each; }
};

}  // namespace

extern "C" {

// y = clamp(gain * act(x + bias)); bias may be null.
void biface_bias_act(
    const float* x, const float* bias, float* y, int64_t outer, int64_t channels, int64_t inner,
    float slope, float gain, float clamp, int threads) {
    const Activation act{slope, gain, clamp};
    const bool is_innermost = inner == 1;
    const Rows rows(is_innermost ? outer : outer * channels, is_innermost ? channels : inner);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < rows.chunks(); chunk++) {
        const int64_t end = std::min(rows.count, (chunk + 1) * rows.each);
        for (int64_t row = chunk * rows.each; row < end; row++) {
            const float* from = x + row * rows.width;
            float* to = y + row * rows.width;
            if (bias == nullptr) {
                for (int64_t k = 0; k < rows.width; k++) to[k] = act.value(from[k]);
            } else if (is_innermost) {
                for (int64_t k = 0; k < rows.width; k++) to[k] = act.value(from[k] + bias[k]);
            } else {
                const float shift = bias[row % channels];
                for (int64_t k = 0; k < rows.width; k++) to[k] = act.value(from[k] + shift);
            }
        }
    }
}

// x = clamp(gain * act(x * scale + noise + bias)) in place, for drawing images, where nothing is
// kept for derivatives. x is [n, pixels, channels], scale [n, channels], bias [channels]; noise
// [noise_n, pixels], noise_n 1 or n, may be null.
void biface_finish(
    float* x, const float* scale, const float* noise, const float* bias, int64_t n,
    int64_t noise_n, int64_t pixels, int64_t channels, float slope, float gain, float clamp,
    int threads) {
    const Activation act{slope, gain, clamp};
    const Rows rows(n * pixels, channels);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < rows.chunks(); chunk++) {
        const int64_t end = std::min(rows.count, (chunk + 1) * rows.each);
        for (int64_t row = chunk * rows.each; row < end; row++) {
            const float* factors = scale + row / pixels * channels;
            const float more = noise == nullptr ? 0 : noise[row % (noise_n * pixels)];
            float* values = x + row * channels;
            for (int64_t k = 0; k < channels; k++)
                values[k] = act.value(values[k] * factors[k] + more + bias[k]);
        }
    }
}

// The number of partial sums that biface_bias_act_grad writes: [this, channels].
int64_t biface_bias_act_chunks(int64_t outer, int64_t channels, int64_t inner) {
    return inner == 1 ? Rows(outer, channels).chunks() : outer;
}

// dx = (dy + shift) * derivative(y), shift [channels] or null. With sums [chunks, channels]: the
// sums of dx over chunks of fixed size, so that the total does not depend on the threads.
void biface_bias_act_grad(
    const float* dy, const float* shift, const float* y, float* dx, float* sums, int64_t outer,
    int64_t channels, int64_t inner, float slope, float gain, float clamp, int threads) {
    const Activation act{slope, gain, clamp};
    if (inner != 1) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t row = 0; row < outer * channels; row++) {
            const float more = shift == nullptr ? 0 : shift[row % channels];
            const float *from = dy + row * inner, *result = y + row * inner;
            float* to = dx + row * inner;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < inner; k++) {
                to[k] = (from[k] + more) * act.derivative(result[k]);
                sum += to[k];
            }
            if (sums != nullptr) sums[row] = sum;
        }
        return;
    }
    const Rows rows(outer, channels);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < rows.chunks(); chunk++) {
        float* sum = sums == nullptr ? nullptr : sums + chunk * channels;
        if (sum != nullptr) std::fill(sum, sum + channels, 0.0f);
        const int64_t end = std::min(rows.count, (chunk + 1) * rows.each);
        for (int64_t row = chunk * rows.each; row < end; row++) {
            const float *from = dy + row * channels, *result = y + row * channels;
            float* to = dx + row * channels;
            if (shift != nullptr)
                for (int64_t k = 0; k < channels; k++)
                    to[k] = (from[k] + shift[k]) * act.derivative(result[k]);
            else
                for (int64_t k = 0; k < channels; k++) to[k] = from[k] * act.derivative(result[k]);
            if (sum != nullptr)
                for (int64_t k = 0; k < channels; k++) sum[k] += to[k];
        }
    }
}

}  // extern "C"

// What bias_act computes at one element, forward and for both derivatives.
#pragma once

#include <cstdint>

#include "activations.h"

namespace biface {

// The tensors are [outer, channels, inner] in memory; inner is 1 where channels are innermost.
struct BiasActShape {
    int64_t size, channels, inner;
};

template <class S>
struct BiasActSetting {
    S alpha, gain, clamp;  // clamp < 0: none
};

template <class Index>
BIFACE_ANYWHERE Index channel_of(Index element, Index channels, Index inner) {
    return element / inner % channels;
}

template <int kAct, class S>
BIFACE_ANYWHERE S bias_act_value(S x, const BiasActSetting<S>& setting) {
    const S y = act_value<kAct>(x, setting.alpha) * setting.gain;
    if (setting.clamp < 0) return y;
    return y > setting.clamp ? setting.clamp : y < -setting.clamp ? -setting.clamp : y;
}

template <class S>
BIFACE_ANYWHERE bool is_inside(S y, const BiasActSetting<S>& setting) {
    return setting.clamp < 0 || (y < setting.clamp && y > -setting.clamp);
}

// The derivative. `known` is the result of linear, relu and lrelu, whose sign tells the slope, and
// the input x + bias of the others.
template <int kAct, class S>
BIFACE_ANYWHERE S bias_act_slope(S known, const BiasActSetting<S>& setting) {
    constexpr bool is_result = kAct == kLinear || kAct == kRelu || kAct == kLrelu;
    const S y = is_result ? known : act_value<kAct>(known, setting.alpha) * setting.gain;
    const S slope = kAct == kLinear ? S(1) : act_slope<kAct>(known, setting.alpha);
    return is_inside(y, setting) ? slope * setting.gain : S(0);
}

// The second derivative; 0 for linear, relu and lrelu.
template <int kAct, class S>
BIFACE_ANYWHERE S bias_act_curvature(S x, const BiasActSetting<S>& setting) {
    const S y = act_value<kAct>(x, setting.alpha) * setting.gain;
    return is_inside(y, setting) ? act_curvature<kAct>(x) * setting.gain : S(0);
}

// One element. kOrder 0: result of x. kOrder 1: `factor` times the slope at x. kOrder 2: `factor`
// times the curvature at x.
template <int kAct, int kOrder, class S>
BIFACE_ANYWHERE S bias_act_element(S x, S bias, S factor, const BiasActSetting<S>& setting) {
    if (kOrder == 0) return bias_act_value<kAct>(x + bias, setting);
    if (kOrder == 1) return factor * bias_act_slope<kAct>(x + bias, setting);
    return factor * bias_act_curvature<kAct>(x + bias, setting);
}

}  // namespace biface

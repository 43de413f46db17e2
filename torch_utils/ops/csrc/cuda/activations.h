// The nine activations with their first and second derivatives, at one value.
#pragma once

#include <cmath>

#include "portable.h"

namespace biface {

// In the order of ACTIVATIONS in bias_act.py.
enum Activation { kLinear, kRelu, kLrelu, kTanh, kSigmoid, kElu, kSelu, kSoftplus, kSwish };

constexpr double kSeluScale = 1.0507009873554805;  // Klambauer et al. 2017 (arXiv:1706.02515)
constexpr double kSeluAlpha = 1.6732632423543772;

template <class S>
BIFACE_ANYWHERE S sigmoid(S x) {
    return S(1) / (S(1) + std::exp(-x));
}

template <int kAct, class S>
BIFACE_ANYWHERE S act_value(S x, S alpha) {
    if (kAct == kRelu) return x > 0 ? x : x != x ? x : S(0);
    if (kAct == kLrelu) return x > 0 ? x : x * alpha;
    if (kAct == kTanh) return std::tanh(x);
    if (kAct == kSigmoid) return sigmoid(x);
    if (kAct == kElu) return x > 0 ? x : std::expm1(x);
    if (kAct == kSelu) return S(kSeluScale) * (x > 0 ? x : S(kSeluAlpha) * std::expm1(x));
    if (kAct == kSoftplus) return (x > 0 ? x : S(0)) + std::log1p(std::exp(-std::abs(x)));
    if (kAct == kSwish) return x * sigmoid(x);
    return x;
}

template <int kAct, class S>
BIFACE_ANYWHERE S act_slope(S x, S alpha) {
    if (kAct == kRelu) return x > 0 ? S(1) : S(0);
    if (kAct == kLrelu) return x > 0 ? S(1) : alpha;
    if (kAct == kElu) return x > 0 ? S(1) : std::exp(x);
    if (kAct == kSelu) return S(kSeluScale) * (x > 0 ? S(1) : S(kSeluAlpha) * std::exp(x));
    if (kAct == kSoftplus) return sigmoid(x);
    if (kAct == kTanh) {
        const S t = std::tanh(x);
        return S(1) - t * t;
    }
    const S s = sigmoid(x);
    if (kAct == kSigmoid) return s * (S(1) - s);
    if (kAct == kSwish) return s + x * s * (S(1) - s);
    return S(1);
}

template <int kAct, class S>
BIFACE_ANYWHERE S act_curvature(S x) {
    if (kAct == kElu) return x > 0 ? S(0) : std::exp(x);
    if (kAct == kSelu) return x > 0 ? S(0) : S(kSeluScale * kSeluAlpha) * std::exp(x);
    if (kAct == kTanh) {
        const S t = std::tanh(x);
        return S(-2) * t * (S(1) - t * t);
    }
    const S s = sigmoid(x), slope = s * (S(1) - s);
    if (kAct == kSigmoid) return slope * (S(1) - S(2) * s);
    if (kAct == kSoftplus) return slope;
    if (kAct == kSwish) return slope * (S(2) + x * (S(1) - S(2) * s));
    return S(0);
}

}  // namespace biface

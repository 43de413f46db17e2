// A vector of floats as wide as the processor's registers, and square blocks of them.
#pragma once

#include <cstdint>

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

// Values may lie at any multiple of four bytes.
typedef float Vector __attribute__((vector_size(kWidth * sizeof(float)), aligned(4), may_alias));

static inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }

static inline void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }

#if defined(__GNUC__) && !defined(__clang__)
typedef int32_t Indices __attribute__((vector_size(kWidth * sizeof(int32_t))));

// One stage of the transposition: exchange the off-diagonal blocks of kSize x kSize values.
template <int kSize>
static inline void exchange_blocks(Vector* rows) {
    Indices upper, lower;
    for (int k = 0; k < kWidth; k++) {
        upper[k] = (k & kSize) ? k - kSize + kWidth : k;
        lower[k] = (k & kSize) ? k + kWidth : k + kSize;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; i++) {
        if (i & kSize) continue;
        Vector above = rows[i], below = rows[i + kSize];
        rows[i] = __builtin_shuffle(above, below, upper);
        rows[i + kSize] = __builtin_shuffle(above, below, lower);
    }
    if constexpr (2 * kSize < kWidth) exchange_blocks<2 * kSize>(rows);
}

// Transpose kWidth rows of kWidth values in place.
static inline void transpose(Vector* rows) { exchange_blocks<1>(rows); }
#else
static inline void transpose(Vector* rows) {
    for (int i = 0; i < kWidth; i++)
        for (int j = 0; j < i; j++) {
            float value = rows[i][j];
            rows[i][j] = rows[j][i];
            rows[j][i] = value;
        }
}
#endif

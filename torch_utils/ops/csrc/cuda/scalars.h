// Element types of the kernels: what they compute in, and how they are read and written.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace biface {

// In the order of DTYPES in cuda_kernels.py.
enum Scalar { kFloat32, kFloat64, kFloat16, kBfloat16 };

template <class T>
struct Compute {
    using type = float;
};
template <>
struct Compute<double> {
    using type = double;
};

__device__ __forceinline__ float read(float x) { return x; }
__device__ __forceinline__ double read(double x) { return x; }
__device__ __forceinline__ float read(__half x) { return __half2float(x); }
__device__ __forceinline__ float read(__nv_bfloat16 x) { return __bfloat162float(x); }

__device__ __forceinline__ void write(float& to, float x) { to = x; }
__device__ __forceinline__ void write(double& to, double x) { to = x; }
__device__ __forceinline__ void write(__half& to, float x) { to = __float2half_rn(x); }
__device__ __forceinline__ void write(__nv_bfloat16& to, float x) { to = __float2bfloat16_rn(x); }

// Call function(T{}) for the element type of a code.
template <class Function>
cudaError_t for_scalar(int scalar, Function function) {
    switch (scalar) {
        case kFloat32: return function(float{});
        case kFloat64: return function(double{});
        case kFloat16: return function(__half{});
        case kBfloat16: return function(__nv_bfloat16{});
        default: return cudaErrorInvalidValue;
    }
}

}  // namespace biface

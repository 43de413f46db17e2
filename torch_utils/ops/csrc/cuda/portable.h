// Lets the bodies of the kernels compile for the host as well, where tests run them without a GPU.
#pragma once

#if defined(__CUDACC__)
#define BIFACE_ANYWHERE __host__ __device__ __forceinline__
#else
#define BIFACE_ANYWHERE inline
#endif

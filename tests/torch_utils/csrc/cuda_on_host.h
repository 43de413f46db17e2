// Lets the sources of the CUDA kernels compile for the host: each thread of a block is a thread.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <barrier>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

namespace on_host {

struct Place {
    unsigned x = 0;
};

inline thread_local Place thread_place, block_place;
inline Place grid_size;
inline std::barrier<>* meeting = nullptr;

// Run a kernel's body for all threads of a block at once, and for one block after the other.
inline void run(int blocks, int threads, void (*call)(void*), void* body) {
    std::barrier<> barrier(threads);
    meeting = &barrier;
    grid_size.x = unsigned(blocks);
    std::vector<std::jthread> running;
    for (int thread = 0; thread < threads; thread++)
        running.emplace_back([&, thread] {
            thread_place.x = unsigned(thread);
            for (int block = 0; block < blocks; block++) {
                block_place.x = unsigned(block);
                call(body);
                barrier.arrive_and_wait();
            }
        });
}

// There are hundreds of bodies: the code of threads is compiled once.
template <class Body>
void launch(int blocks, int threads, Body body) {
    run(blocks, threads, [](void* pointer) { (*static_cast<Body*>(pointer))(); }, &body);
}

}  // namespace on_host

#undef __shared__
#define __shared__ static
#define __launch_bounds__(count)
#define threadIdx on_host::thread_place
#define blockIdx on_host::block_place
#define gridDim on_host::grid_size
#define __syncthreads() on_host::meeting->arrive_and_wait()
#define cudaGetLastError() cudaSuccess
#define cudaGetErrorString(code) ((code) == cudaSuccess ? "no error" : "invalid argument")

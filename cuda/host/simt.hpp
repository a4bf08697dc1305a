// The part of CUDA that the kernels use, for the CPU. It is included before the unchanged text of a
// .cu file.
//
// Each thread of a block is a fiber, or a thread of the system with SIMT_THREADS (for the thread
// sanitizer). Collective operations of a warp or a block use a barrier: every thread stores a
// value, waits until all have arrived, and reads the values of the others. Blocks run one after the
// other.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#ifdef SIMT_THREADS
#include <condition_variable>
#include <mutex>
#include <thread>
#define SIMT_LOCAL thread_local
#else
#include <ucontext.h>
#define SIMT_LOCAL
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __constant__ static
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#ifndef __restrict__
#define __restrict__ __restrict
#endif

struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct Index {
    unsigned x = 0, y = 0, z = 0;
};

namespace simt {

constexpr unsigned WARP = 32;
inline Index thread_count, block_count;  // blockDim, gridDim
inline SIMT_LOCAL Index thread_index, block_index;
inline unsigned char* dynamic_memory;

#ifdef SIMT_THREADS

class Meeting {
   public:
    void reset(unsigned n) { members = n, waiting = 0; }
    void wait() {
        std::unique_lock<std::mutex> lock(mutex);
        unsigned turn = generation;
        if (++waiting == members) {
            waiting = 0;
            generation++;
            all.notify_all();
        } else {
            all.wait(lock, [&] { return generation != turn; });
        }
    }

   private:
    std::mutex mutex;
    std::condition_variable all;
    unsigned members = 0, waiting = 0, generation = 0;
};

#else

inline std::vector<ucontext_t> fibers;
inline std::vector<char> done;
inline ucontext_t scheduler;
inline unsigned running;

// Lets the other fibers run, and returns when it is the turn of this fiber again.
inline void pass() {
    swapcontext(&fibers[running], &scheduler);
}

class Meeting {
   public:
    void reset(unsigned n) { members = n, waiting = 0; }
    void wait() {
        unsigned turn = generation;
        if (++waiting == members) {
            waiting = 0;
            generation++;
            return;
        }
        while (generation == turn) pass();
    }

   private:
    unsigned members = 0, waiting = 0, generation = 0;
};

#endif

inline std::unique_ptr<Meeting[]> warps;
inline Meeting block;
inline std::vector<uint64_t> left;  // the value that each thread stored for its warp

// Returns the values of all threads of the warp, in the order of the lanes.
inline void exchange(uint64_t value, uint64_t (&all)[WARP]) {
    unsigned self = thread_index.x, first = self / WARP * WARP;
    left[self] = value;
    warps[self / WARP].wait();
    for (unsigned lane = 0; lane < WARP; lane++) all[lane] = left[first + lane];
    warps[self / WARP].wait();
}

// Runs a kernel with blocks of `threads` threads, a multiple of 32.
void launch(unsigned blocks, unsigned threads, unsigned shared_bytes, const std::function<void()>&);

}  // namespace simt

#define threadIdx simt::thread_index
#define blockIdx simt::block_index
#define blockDim simt::thread_count
#define gridDim simt::block_count
#define DYNAMIC_SHARED(name) unsigned char* name = simt::dynamic_memory

inline void __syncthreads() { simt::block.wait(); }
inline void __syncwarp() { simt::warps[threadIdx.x / simt::WARP].wait(); }

inline unsigned __ballot_sync(unsigned, bool vote) {
    uint64_t all[simt::WARP];
    simt::exchange(vote, all);
    unsigned bits = 0;
    for (unsigned lane = 0; lane < simt::WARP; lane++) bits |= unsigned(all[lane] != 0) << lane;
    return bits;
}
inline bool __any_sync(unsigned mask, bool vote) { return __ballot_sync(mask, vote) != 0; }

template <typename T>
T simt_shuffle(T value, unsigned source) {
    uint64_t bits = 0, all[simt::WARP];
    memcpy(&bits, &value, sizeof(T));
    simt::exchange(bits, all);
    memcpy(&value, &all[source], sizeof(T));
    return value;
}
template <typename T>
T __shfl_sync(unsigned, T value, unsigned source) {
    return simt_shuffle(value, source % simt::WARP);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, unsigned step) {
    return simt_shuffle(value, (threadIdx.x % simt::WARP) ^ step);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, unsigned step) {
    unsigned lane = threadIdx.x % simt::WARP;
    return simt_shuffle(value, lane >= step ? lane - step : lane);
}

template <typename T>
T __ldg(const T* place) {
    return *place;
}
inline void __stwb(uint2* place, uint2 value) { *place = value; }
inline void __stwb(uint4* place, uint4 value) { *place = value; }

inline unsigned __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(unsigned x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return unsigned((uint64_t(high) << 32 | low) >> (shift % 32));
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    uint64_t bytes = uint64_t(y) << 32 | x;
    unsigned result = 0;
    for (unsigned i = 0; i < 4; i++) {
        result |= unsigned(bytes >> 8 * (selector >> 4 * i & 7) & 0xFF) << 8 * i;
    }
    return result;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}
inline unsigned atomicMax(unsigned* place, unsigned value) {
    unsigned old = __atomic_load_n(place, __ATOMIC_RELAXED);
    while (old < value && !__atomic_compare_exchange_n(place, &old, value, false, __ATOMIC_RELAXED,
                                                       __ATOMIC_RELAXED)) {
    }
    return old;
}
inline unsigned atomicMin(unsigned* place, unsigned value) {
    unsigned old = __atomic_load_n(place, __ATOMIC_RELAXED);
    while (old > value && !__atomic_compare_exchange_n(place, &old, value, false, __ATOMIC_RELAXED,
                                                       __ATOMIC_RELAXED)) {
    }
    return old;
}
inline unsigned atomicAdd(unsigned* place, unsigned value) {
    return __atomic_fetch_add(place, value, __ATOMIC_RELAXED);
}

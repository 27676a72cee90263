// CUDA kernels on a CPU, for tests: every thread of a block is a fiber. Blocks run one after the other, the warps of a
// block in turn, in an order that a seed draws. Shared memory is garbage before each block, and a barrier that not all
// threads reach is an error.
//
// Fibers begin by ucontext and change places by setjmp, which asks the kernel for nothing. Static shared memory is
// thread-local to C++, so that the linker keeps it in one piece, which can be found and filled.
#pragma once

#include <link.h>
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static thread_local
#define DYNAMIC_SHARED(type, name) type* const name = reinterpret_cast<type*>(cuda_on_cpu::dynamic_shared)

struct uint3 {
    unsigned x, y, z;
};
using dim3 = uint3;

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace cuda_on_cpu {

constexpr int WARP = 32, LARGEST_BLOCK = 1024;
constexpr int STACK = (64 << 10) + 17 * 64;  // not a power of two: the tops of all stacks would share a few cache lines
constexpr size_t SHARED = 36 << 10;  // dynamic; a block has 48 KiB, of which kernels have static parts
constexpr unsigned char GARBAGE = 0xff;  // NaN in every floating-point format

enum class State { ready, at_barrier, at_warp, done };

struct Fiber {
    ucontext_t start;
    jmp_buf at;
    bool started;
    State state;
    uint3 index;
    int line, warp, turn;
};

inline Fiber fibers[LARGEST_BLOCK];
inline Fiber* current;
inline jmp_buf scheduler;
inline unsigned char* dynamic_shared;
inline void (*body)();
inline char error[256];
inline uint64_t lanes[2][LARGEST_BLOCK];
inline thread_local unsigned char static_shared_mark;  // so that there is a thread-local block, and it can be found

inline uint64_t next(uint64_t& random) {  // splitmix64
    uint64_t z = random += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

inline void shuffle(unsigned* order, unsigned count, uint64_t& random) {
    for (unsigned i = 0; i < count; i++) {
        const unsigned j = next(random) % (i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}

__attribute__((noinline)) inline void yield_to_scheduler() {
    if (!_setjmp(current->at)) _longjmp(scheduler, 1);
}

inline void fiber_main() {
    while (true) {
        body();
        current->state = State::done;
        yield_to_scheduler();
    }
}

__attribute__((noinline)) inline void resume(Fiber* fiber) {
    current = fiber;
    threadIdx = fiber->index;
    if (_setjmp(scheduler)) return;
    if (fiber->started) _longjmp(fiber->at, 1);
    fiber->started = true;
    setcontext(&fiber->start);
}

__attribute__((noinline)) inline void wait(State state, int line) {
    current->state = state;
    current->line = line;
    yield_to_scheduler();
}

inline int thread_number() {
    return static_cast<int>(current - fibers);
}

// The waiting threads of first..last are released if all wait there, at one line.
inline bool release(int first, int last, State state) {
    for (int i = first; i < last; i++)
        if (fibers[i].state != state || fibers[i].line != fibers[first].line) return false;
    for (int i = first; i < last; i++) fibers[i].state = State::ready;
    return true;
}

// Each warp in turn runs until it can go no further, as far ahead of the others as barriers let it.
inline bool run_warp(const unsigned* order) {
    const unsigned first = order[0] / WARP * WARP;
    bool any = false;
    while (true) {
        bool ran = false;
        for (int i = 0; i < WARP; i++) {
            Fiber* const fiber = &fibers[order[i]];
            if (fiber->state != State::ready) continue;
            resume(fiber);
            ran = true;
        }
        any |= ran;
        if (!release(first, first + WARP, State::at_warp)) return any;
    }
}

inline bool run_block(unsigned threads, const unsigned* order) {
    for (unsigned i = 0; i < threads; i++) fibers[i].state = State::ready;
    while (true) {
        bool ran = false, all_done = true;
        for (unsigned first = 0; first < threads; first += WARP) ran |= run_warp(order + first);
        ran |= release(0, threads, State::at_barrier);
        for (unsigned i = 0; i < threads; i++) all_done &= fibers[i].state == State::done;
        if (all_done) return true;
        if (ran) continue;
        unsigned waiting = 0;
        while (fibers[waiting].state == State::done) waiting++;
        snprintf(error, sizeof error, "block %u, thread %u waits at line %d, which not all threads reach", blockIdx.x,
                 waiting, fibers[waiting].line);
        return false;
    }
}

inline int poison_of(dl_phdr_info* info, size_t, void* size) {
    const auto* mark = &static_shared_mark;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const auto& part = info->dlpi_phdr[i];
        auto* const start = static_cast<unsigned char*>(info->dlpi_tls_data);
        if (part.p_type != PT_TLS || !start || mark < start || mark >= start + part.p_memsz) continue;
        memset(start, GARBAGE, part.p_memsz);
        *static_cast<size_t*>(size) = part.p_memsz;
        return 1;
    }
    return 0;
}

// Its size (of all kernels of the library together), or 0 if it is not found.
inline size_t poison_static_shared() {
    size_t size = 0;
    *const_cast<volatile unsigned char*>(&static_shared_mark) = GARBAGE;
    dl_iterate_phdr(poison_of, &size);
    return size;
}

inline const char* run(void (*kernel)(), dim3 grid, dim3 block, size_t shared, uint64_t seed) {
    const unsigned threads = block.x * block.y * block.z, blocks = grid.x * grid.y * grid.z;
    if (threads == 0 || threads > LARGEST_BLOCK || threads % WARP || blocks == 0)
        return "a block has from 1 to 1024 threads, in whole warps, and a grid has blocks";
    if (poison_static_shared() == 0) return "static shared memory is not found";
    if (shared > SHARED) return "dynamic shared memory leaves too little for the static";
    static auto* const stacks = static_cast<char*>(malloc(static_cast<size_t>(LARGEST_BLOCK) * STACK));
    auto* const memory = static_cast<unsigned char*>(malloc(shared + 64));
    auto* const order = static_cast<unsigned*>(malloc(sizeof(unsigned) * blocks));
    static unsigned thread_order[LARGEST_BLOCK], warp_order[LARGEST_BLOCK / WARP];
    dynamic_shared = memory + (16 - reinterpret_cast<uintptr_t>(memory) % 16) % 16;
    body = kernel;
    gridDim = grid;
    blockDim = block;
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = fibers[i];
        fiber.index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
        fiber.turn = 0;
        if (fiber.started) continue;  // it waits for the next kernel
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = stacks + static_cast<size_t>(i) * STACK;
        fiber.start.uc_stack.ss_size = STACK;
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, fiber_main, 0);
    }
    uint64_t random = seed;
    shuffle(order, blocks, random);
    const char* result = nullptr;
    for (unsigned i = 0; i < blocks && !result; i++) {
        blockIdx = {order[i] % grid.x, order[i] / grid.x % grid.y, order[i] / grid.x / grid.y};
        memset(memory, GARBAGE, shared + 64);
        poison_static_shared();
        unsigned lane_order[WARP];
        shuffle(warp_order, threads / WARP, random);
        shuffle(lane_order, WARP, random);
        for (unsigned t = 0; t < threads; t++) thread_order[t] = warp_order[t / WARP] * WARP + lane_order[t % WARP];
        if (!run_block(threads, thread_order)) result = error;
    }
    if (result)
        for (Fiber& fiber : fibers) fiber.started = false;  // some stopped in the middle
    free(order);
    free(memory);
    return result;
}

// What a kernel is called with, for the caller to check

template <typename T>
constexpr char kind_of() {
    if constexpr (__is_class(T))
        return 's';
    else
        return T(1) / T(2) != T(0) && T(2) != T(1) ? 'f' : 'i';
}

struct Parameter {
    char kind, points_to;  // p: pointer, f: floating point, i: whole number, s: a structure
    int32_t size, size_of_what_it_points_to;
};

template <typename T>
struct Bare {
    using type = T;
};
template <typename T>
struct Bare<const T> {
    using type = T;
};

template <typename T>
struct Description {
    static constexpr Parameter value = {kind_of<typename Bare<T>::type>(), 0, sizeof(T), 0};
};
template <typename T>
struct Description<T*> {
    static constexpr Parameter value = {'p', kind_of<typename Bare<T>::type>(), sizeof(T*), sizeof(T)};
};

template <typename... P>
int describe(void (*)(P...), Parameter* parameters) {
    const Parameter all[] = {Description<P>::value...};
    if (parameters) memcpy(parameters, all, sizeof all);
    return sizeof...(P);
}

template <typename... P>
struct Call {
    static inline void (*kernel)(P...);
    static inline void** arguments;

    template <size_t... I>
    static void unpack(std::index_sequence<I...>) {
        kernel(*static_cast<P*>(arguments[I])...);
    }
    static void once() { unpack(std::index_sequence_for<P...>()); }
};

template <typename... P>
const char* launch(void (*kernel)(P...), const unsigned* grid, const unsigned* block, void** arguments, size_t shared,
                   uint64_t seed) {
    Call<P...>::kernel = kernel;
    Call<P...>::arguments = arguments;
    return run(Call<P...>::once, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared, seed);
}

}  // namespace cuda_on_cpu

// A kernel for the host to find: `describe_<number>` and `launch_<number>`
#define VISIBLE extern "C" __attribute__((visibility("default")))
#define EXPORT_KERNEL(number, ...)                                                                                    \
    VISIBLE int describe_##number(cuda_on_cpu::Parameter* parameters) {                                               \
        return cuda_on_cpu::describe(__VA_ARGS__, parameters);                                                        \
    }                                                                                                                 \
    VISIBLE const char* launch_##number(const unsigned* grid, const unsigned* block, void** arguments, size_t shared, \
                                        uint64_t seed) {                                                              \
        return cuda_on_cpu::launch(__VA_ARGS__, grid, block, arguments, shared, seed);                                \
    }

// What CUDA gives every kernel

inline void __syncthreads(int line = __builtin_LINE()) {
    cuda_on_cpu::wait(cuda_on_cpu::State::at_barrier, line);
}

inline void __syncwarp(unsigned = 0xffffffffu, int line = __builtin_LINE()) {
    cuda_on_cpu::wait(cuda_on_cpu::State::at_warp, line);
}

// Two sets of slots in turn: nobody writes a slot again before all have passed the next exchange.
template <typename T>
inline T __shfl_sync(unsigned, T value, int from, int = 32, int line = __builtin_LINE()) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    const int me = cuda_on_cpu::thread_number(), turn = cuda_on_cpu::current->turn ^= 1;
    memcpy(&cuda_on_cpu::lanes[turn][me], &value, sizeof value);
    cuda_on_cpu::wait(cuda_on_cpu::State::at_warp, line);
    memcpy(&value, &cuda_on_cpu::lanes[turn][me / 32 * 32 + from % 32], sizeof value);
    return value;
}

template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int distance, int = 32, int line = __builtin_LINE()) {
    return __shfl_sync(mask, value, cuda_on_cpu::thread_number() % 32 ^ distance, 32, line);
}

template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, int distance, int = 32, int line = __builtin_LINE()) {
    const int lane = cuda_on_cpu::thread_number() % 32;
    return __shfl_sync(mask, value, lane + distance < 32 ? lane + distance : lane, 32, line);
}

inline unsigned __ballot_sync(unsigned, bool value, int line = __builtin_LINE()) {
    const int me = cuda_on_cpu::thread_number(), turn = cuda_on_cpu::current->turn ^= 1;
    cuda_on_cpu::lanes[turn][me] = value;
    cuda_on_cpu::wait(cuda_on_cpu::State::at_warp, line);
    unsigned votes = 0;
    for (int i = 0; i < 32; i++) votes |= static_cast<unsigned>(cuda_on_cpu::lanes[turn][me / 32 * 32 + i]) << i;
    return votes;
}

inline void __threadfence() {}

inline unsigned atomicAdd(unsigned* address, unsigned value) {
    const unsigned old = *address;
    *address = old + value;
    return old;
}

inline unsigned atomicInc(unsigned* address, unsigned limit) {
    const unsigned old = *address;
    *address = old >= limit ? 0 : old + 1;
    return old;
}

inline unsigned __float_as_uint(float value) {
    return __builtin_bit_cast(unsigned, value);
}

inline float __uint_as_float(unsigned bits) {
    return __builtin_bit_cast(float, bits);
}

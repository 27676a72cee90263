// What all kernels share. No headers: NVRTC knows the intrinsics by itself, and the tests bring their own.
//
// Blocks have one dimension of whole warps. Every sum has a fixed order, so that runs repeat bit by bit.

constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int WARP = 32;
constexpr int LARGEST_BLOCK = 1024;

#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(type, name)                                       \
    extern __shared__ __align__(16) unsigned char dynamic_shared[];     \
    type* const name = reinterpret_cast<type*>(dynamic_shared)
#endif

// Numbers as they are stored, and as they are computed with

struct bfloat16 {
    unsigned short bits;
};

template <typename T>
struct Arithmetic {
    using type = T;
};
template <>
struct Arithmetic<bfloat16> {
    using type = float;
};

template <typename T>
__device__ inline T widened(T value) {
    return value;
}
__device__ inline float widened(bfloat16 value) {
    return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}

template <typename T>
struct Narrowed {
    template <typename Real>
    static __device__ inline T of(Real value) {
        return static_cast<T>(value);
    }
};
template <>
struct Narrowed<bfloat16> {
    // To the nearest, ties to even; NaN stays NaN, also where the low half held all of it.
    static __device__ inline bfloat16 of(float value) {
        const unsigned bits = __float_as_uint(value);
        if (value != value) return {static_cast<unsigned short>((bits >> 16) | 0x40u)};
        return {static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
    }
};

template <typename Real>
struct SmallestNormal;
template <>
struct SmallestNormal<float> {
    static constexpr float value = 1.17549435082228750797e-38f;
};
template <>
struct SmallestNormal<double> {
    static constexpr double value = 2.2250738585072013831e-308;
};

__device__ inline float infinity() {
    return __uint_as_float(0x7f800000u);
}

// Brings numbers whose squares overflow to where they do not
template <typename Real>
struct Shrinking;
template <>
struct Shrinking<float> {
    static constexpr float value = 8.271806125530277e-25f;  // 2^-80
};
template <>
struct Shrinking<double> {
    static constexpr double value = 2.191809349008403e-193;  // 2^-640
};

// N numbers side by side, loaded and stored at once

template <typename T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
    T at[N];
};

template <int N, typename T>
__device__ inline Pack<T, N> loaded(const T* from) {
    return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <int N, typename T>
__device__ inline void store(T* to, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// Reductions: every thread that takes part gets the same result

struct Sum {
    template <typename T>
    static __device__ inline T of(T a, T b) {
        return a + b;
    }
};
struct Largest {  // NaN is larger than all
    template <typename T>
    static __device__ inline T of(T a, T b) {
        return a > b || a != a ? a : b;
    }
};
struct Smallest {
    template <typename T>
    static __device__ inline T of(T a, T b) {
        return a < b ? a : b;
    }
};

// Over each `Lanes` neighbouring lanes, `Apart` lanes apart: a butterfly.
template <int Lanes, typename Op, int Apart = 1, typename T>
__device__ inline T over_lanes(T value) {
#pragma unroll
    for (int distance = Apart; distance < Lanes * Apart; distance *= 2)
        value = Op::of(value, __shfl_xor_sync(ALL_LANES, value, distance));
    return value;
}

template <typename Op, typename T>
__device__ inline T over_block(T value) {
    __shared__ T parts[LARGEST_BLOCK / WARP];
    value = over_lanes<WARP, Op>(value);
    __syncthreads();  // everybody has read the parts of the call before
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = value;
    __syncthreads();
    value = parts[0];
    for (int i = 1; i < static_cast<int>(blockDim.x) / WARP; i++) value = Op::of(value, parts[i]);
    return value;
}

// Over the threads of a block that are multiples of `Width` apart: those of a column, where a row has `Width` threads.
template <int Width, typename Op, typename T>
__device__ inline T over_column(T value) {
    __shared__ T parts[LARGEST_BLOCK / WARP * Width];
    const int column = threadIdx.x % Width;
    value = over_lanes<WARP / Width, Op, Width>(value);
    __syncthreads();  // everybody has read the parts of the call before
    if (threadIdx.x % WARP < Width) parts[threadIdx.x / WARP * Width + column] = value;
    __syncthreads();
    value = parts[column];
#pragma unroll 8
    for (int i = 1; i < static_cast<int>(blockDim.x) / WARP; i++) value = Op::of(value, parts[i * Width + column]);
    return value;
}

// Over a group: some lanes of a warp, or the block.
template <int Group, typename Op, typename T>
__device__ inline T over_group(T value) {
    if constexpr (Group <= WARP)
        return over_lanes<Group, Op>(value);
    else
        return over_block<Op>(value);
}

// Sums over blocks: each writes a row of partial sums, and the last to finish adds the rows up

// Whether this block is the last of `blocks` to come here: it sees what the others wrote before. Sets the counter to 0.
__device__ inline bool is_last(unsigned* counter, unsigned blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(counter, blocks - 1) == blocks - 1;
    __syncthreads();
    if (last) __threadfence();
    return last;
}

// The first row <- the sum of the rows, all of `columns` numbers, `stride` numbers apart; the block sees it.
// Not inlined: small kernels, which never come here, stay small.
template <typename Real>
__device__ __noinline__ void add_rows(Real* first, int rows, int columns, long long stride) {
    __shared__ Real parts[LARGEST_BLOCK];
    const int threads = blockDim.x, me = threadIdx.x;
    int width = 1;
    while (width < columns && width < threads) width *= 2;
    const int column = me % width, part = me / width, count = threads / width;
    for (int start = 0; start < columns; start += width) {
        const bool there = start + column < columns && part < count;
        Real sum = 0;
        if (there) {
#pragma unroll 8
            for (int r = part; r < rows; r += count) sum += first[r * stride + start + column];
        }
        if (count > 1) {  // then width >= columns: there is one turn
            parts[me] = sum;
            __syncthreads();
            if (part == 0)
                for (int i = 1; i < count; i++) sum += parts[i * width + column];
        }
        if (there && part == 0) first[start + column] = sum;
    }
    __syncthreads();
}

// The blocks' rows of partial sums are added up, `fan` blocks at a time and then all of these; true in the block that
// has the result, in the first row. counters: 1 and one for each `fan` blocks.
template <typename Real>
__device__ inline bool add_blocks(Real* partials, int columns, unsigned* counters, int fan) {
    const int blocks = gridDim.x, part = blockIdx.x / fan, parts = (blocks + fan - 1) / fan;
    const int size = Smallest::of(fan, blocks - part * fan);
    if (!is_last(counters + 1 + part, size)) return false;
    add_rows(partials + static_cast<long long>(part) * fan * columns, size, columns, columns);
    if (parts == 1) return true;
    if (!is_last(counters, parts)) return false;
    add_rows(partials, parts, columns, static_cast<long long>(fan) * columns);
    return true;
}

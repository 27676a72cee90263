// Norms: of the gradient, and of the weights into each unit.

#include "common.cuh"

// The sum of x^2 over all blocks: true in the thread that has it.
template <typename Z>
__device__ inline bool sum_of_squares(const Z* x, long long size, Z* partials, unsigned* counters, Z& result) {
    Z sum = 0;
    const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
#pragma unroll 4
    for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step)
        sum += x[i] * x[i];
    sum = over_block<Sum>(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
    if (gridDim.x > 1 && !add_blocks(partials, 1, counters, gridDim.x)) return false;
    if (threadIdx.x != 0) return false;
    result = partials[0];
    return true;
}

template <typename Z>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    squared_norm(const Z* x, long long size, Z* out, Z* partials, unsigned* counters) {
    Z sum;
    if (sum_of_squares(x, size, partials, counters, sum)) *out = sum;
}

// out = min(1, limit / (|g| + 1e-6))
template <typename Z>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    clip_scale(const Z* g, long long size, Z limit, Z* out, Z* partials, unsigned* counters) {
    Z sum;
    if (!sum_of_squares(g, size, partials, counters, sum)) return;
    const Z scale = limit / (sqrt(sum) + Z(1e-6));
    *out = scale > 1 ? Z(1) : scale;
}

// Each column of w is scaled down until its norm is the limit, where it is larger. A block takes `Width` columns.
template <typename Z, int Width>
__global__ void __launch_bounds__(LARGEST_BLOCK) max_norm(Z* w, Z limit, int rows, int columns) {
    const int c = blockIdx.x * Width + threadIdx.x % Width, step = blockDim.x / Width;
    const int stop = c < columns ? rows : 0;
    Z norm = 0;
#pragma unroll 4
    for (int r = threadIdx.x / Width; r < stop; r += step) {
        const Z value = w[static_cast<long long>(r) * columns + c];
        norm += value * value;
    }
    norm = sqrt(over_column<Width, Sum>(norm));
    if (norm <= limit) return;  // NaN goes on
    const Z factor = limit / norm;
#pragma unroll 4
    for (int r = threadIdx.x / Width; r < stop; r += step) w[static_cast<long long>(r) * columns + c] *= factor;
}

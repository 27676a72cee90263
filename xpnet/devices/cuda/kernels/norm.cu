// Norms: of the gradient, and of the weights into each unit.

#include "common.cuh"

// The sum of x^2 over all blocks, and that of shrunk x: partials[0] and [1] in the thread for which this is true.
template <typename Z>
__device__ inline bool sums_of_squares(const Z* x, long long size, Z* partials, unsigned* counters) {
    Z sum = 0, shrunk = 0;
    const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
#pragma unroll 4
    for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) {
        const Z value = x[i], small = value * Shrinking<Z>::value;
        sum += value * value;
        shrunk += small * small;
    }
    sum = over_block<Sum>(sum);
    shrunk = over_block<Sum>(shrunk);
    if (threadIdx.x == 0) {
        partials[2 * blockIdx.x] = sum;
        partials[2 * blockIdx.x + 1] = shrunk;
    }
    if (gridDim.x > 1 && !add_blocks(partials, 2, counters, gridDim.x)) return false;
    return threadIdx.x == 0;
}

// limit / (norm + least), from the sum of squares and that of shrunk numbers; NaN where one is.
template <typename Z>
__device__ inline Z within(Z limit, Z square, Z shrunk, Z least) {
    return square < infinity() ? limit / (sqrt(square) + least) : limit / sqrt(shrunk) * Shrinking<Z>::value;
}

template <typename Z>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    squared_norm(const Z* x, long long size, Z* out, Z* partials, unsigned* counters) {
    if (sums_of_squares(x, size, partials, counters)) *out = partials[0];
}

// out = min(1, limit / (|g| + 1e-6))
template <typename Z>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    clip_scale(const Z* g, long long size, Z limit, Z* out, Z* partials, unsigned* counters) {
    if (!sums_of_squares(g, size, partials, counters)) return;
    const Z scale = within(limit, partials[0], partials[1], Z(1e-6));
    *out = scale > 1 ? Z(1) : scale;
}

// Each column of w is scaled down until its norm is the limit, where it is larger. A block takes `Width` columns.
template <typename Z, int Width>
__global__ void __launch_bounds__(LARGEST_BLOCK) max_norm(Z* w, Z limit, int rows, int columns) {
    const int c = blockIdx.x * Width + threadIdx.x % Width, step = blockDim.x / Width;
    const int stop = c < columns ? rows : 0;
    Z square = 0, shrunk = 0;
#pragma unroll 4
    for (int r = threadIdx.x / Width; r < stop; r += step) {
        const Z value = w[static_cast<long long>(r) * columns + c], small = value * Shrinking<Z>::value;
        square += value * value;
        shrunk += small * small;
    }
    square = over_column<Width, Sum>(square);
    shrunk = over_column<Width, Sum>(shrunk);
    const Z factor = within(limit, square, shrunk, Z(0));
    if (factor >= 1) return;  // NaN goes on
#pragma unroll 4
    for (int r = threadIdx.x / Width; r < stop; r += step) w[static_cast<long long>(r) * columns + c] *= factor;
}

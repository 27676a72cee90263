// Random words from (key, row, column), and dropout by them.

#include "common.cuh"

// lowbias32 (Wellons 2018).
__device__ inline unsigned mixed(unsigned x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

__global__ void random_bits(const unsigned* key, unsigned* out, unsigned rows, unsigned columns) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, r = i / columns;
    if (r < rows) out[i] = mixed(mixed(*key + r) + (i - r * columns));
}

// slope: null, or what becomes slope * m / (1 - rate).
template <typename Z>
__global__ void dropout(const Z* y, const unsigned* key, unsigned threshold, Z scale, Z* out, Z* slope, unsigned rows,
                        unsigned columns) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, r = i / columns;
    if (r >= rows) return;
    const Z factor = mixed(mixed(*key + r) + (i - r * columns)) >= threshold ? scale : Z(0);
    out[i] = y[i] * factor;
    if (slope) slope[i] *= factor;
}

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

// out = y m scale, slope <- slope m, with m = 1 where the word is not below the threshold, else 0; `Rectified`: of
// max(y, 0). key: null, and m is 1; slope: null, or of bool or real numbers. `out` may be y.
// A thread takes `Wide` columns; packs: how many of them a row has.
template <typename S, typename T, typename A, int Wide, bool Rectified>
__global__ void dropout(const S* y, long long y_stride, const unsigned* key, unsigned threshold,
                        typename Arithmetic<S>::type scale, T* out, long long out_stride, A* slope,
                        long long slope_stride, unsigned rows, unsigned packs) {
    using Real = typename Arithmetic<S>::type;
    const unsigned item = blockIdx.x * blockDim.x + threadIdx.x, r = item / packs, c = (item - r * packs) * Wide;
    if (r >= rows) return;
    const unsigned first = key ? mixed(*key + r) + c : 0;
    const Pack<S, Wide> from = loaded<Wide>(y + r * y_stride + c);
    Pack<T, Wide> to;
    Pack<A, Wide> slopes = {};
    if (slope) slopes = loaded<Wide>(slope + r * slope_stride + c);
#pragma unroll
    for (int j = 0; j < Wide; j++) {
        const bool kept = !key || mixed(first + j) >= threshold;
        Real value = widened(from.at[j]);
        if (Rectified && value < 0) value = 0;  // NaN stays
        to.at[j] = Narrowed<T>::of(value * (kept ? scale : Real(0)));
        slopes.at[j] = slopes.at[j] * A(kept);
    }
    store<Wide>(out + r * out_stride + c, to);
    if (slope) store<Wide>(slope + r * slope_stride + c, slopes);
}

// The same numbers, stored otherwise.

#include "common.cuh"

// A thread takes `Wide` columns; packs: how many of them a row has.
template <typename S, typename T, int Wide>
__global__ void convert(const S* source, long long source_stride, T* out, long long out_stride, unsigned rows,
                        unsigned packs) {
    const unsigned item = blockIdx.x * blockDim.x + threadIdx.x, r = item / packs, c = (item - r * packs) * Wide;
    if (r >= rows) return;
    const Pack<S, Wide> from = loaded<Wide>(source + r * source_stride + c);
    Pack<T, Wide> to;
#pragma unroll
    for (int j = 0; j < Wide; j++) to.at[j] = Narrowed<T>::of(widened(from.at[j]));
    store<Wide>(out + r * out_stride + c, to);
}

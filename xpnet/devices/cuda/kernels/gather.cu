// Batches out of a resident set of samples.

#include "common.cuh"

// out[r] = source[index[r]], rows of `words` words; strides in words.
template <typename Word, int Together>
__global__ void take(const Word* source, long long source_stride, const long long* index, Word* out,
                     long long out_stride, unsigned rows, unsigned words) {
    const unsigned items = rows * words, first = blockIdx.x * blockDim.x * Together + threadIdx.x;
    Word found[Together];
#pragma unroll
    for (int i = 0; i < Together; i++) {
        const unsigned item = first + i * blockDim.x, r = item / words;
        if (item < items) found[i] = source[index[r] * source_stride + (item - r * words)];
    }
#pragma unroll
    for (int i = 0; i < Together; i++) {
        const unsigned item = first + i * blockDim.x, r = item / words;
        if (item < items) out[r * out_stride + (item - r * words)] = found[i];
    }
}

// out[r, c] = source[index[r], c] * scale - shift[c], with scale[c] or, where that is null, `factor`; shift may be
// null.
// A thread takes `Wide` columns of each of `Together` packs; packs: how many of them a row has.
template <typename Raw, typename T, int Wide, int Together>
__global__ void gather(const Raw* source, long long source_stride, const long long* index,
                       const typename Arithmetic<T>::type* scale, typename Arithmetic<T>::type factor,
                       const typename Arithmetic<T>::type* shift, T* out, long long out_stride, unsigned rows,
                       unsigned packs) {
    using Real = typename Arithmetic<T>::type;
    const unsigned items = rows * packs, first = blockIdx.x * blockDim.x * Together + threadIdx.x;
    Pack<Raw, Wide> raw[Together];
#pragma unroll
    for (int i = 0; i < Together; i++) {
        const unsigned item = first + i * blockDim.x, r = item / packs;
        if (item < items) raw[i] = loaded<Wide>(source + index[r] * source_stride + (item - r * packs) * Wide);
    }
#pragma unroll
    for (int i = 0; i < Together; i++) {
        const unsigned item = first + i * blockDim.x, r = item / packs, c = (item - r * packs) * Wide;
        if (item >= items) continue;
        Pack<Real, Wide> by, less;
        if (scale) by = loaded<Wide>(scale + c);
        if (shift) less = loaded<Wide>(shift + c);
        Pack<T, Wide> result;
#pragma unroll
        for (int j = 0; j < Wide; j++) {
            Real value = static_cast<Real>(raw[i].at[j]) * (scale ? by.at[j] : factor);
            if (shift) value -= less.at[j];
            result.at[j] = Narrowed<T>::of(value);
        }
        store<Wide>(out + r * out_stride + c, result);
    }
}

// out[r] <- the dense row index[r] of a sparse source, * scale - shift. A block takes a row. Entries that are repeated
// write the same number twice.
template <typename Column, typename Raw, typename T>
__global__ void gather_sparse(const Column* columns, const Raw* values, int entries, const long long* index,
                              const typename Arithmetic<T>::type* scale, typename Arithmetic<T>::type factor,
                              const typename Arithmetic<T>::type* shift, T* out, long long out_stride, int width) {
    using Real = typename Arithmetic<T>::type;
    T* const row = out + blockIdx.x * out_stride;
    const long long start = index[blockIdx.x] * entries;
    for (int c = threadIdx.x; c < width; c += blockDim.x)
        row[c] = Narrowed<T>::of(shift ? Real(0) - shift[c] : Real(0));
    __syncthreads();
    for (int i = threadIdx.x; i < entries; i += blockDim.x) {
        const long long c = columns[start + i];
        Real value = static_cast<Real>(values[start + i]) * (scale ? scale[c] : factor);
        if (shift) value -= shift[c];
        row[c] = Narrowed<T>::of(value);
    }
}

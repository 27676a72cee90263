// Normalization of pre-activations over the batch or the layer, and its gradients.
//
// Over the batch, a block takes `Width` columns, a row of it as many threads. Where gridDim.y is 1 the block has all
// rows, and does all there is to do; else the blocks along y share the rows, the last of them ends their sums, and a
// second kernel follows. counters: one for each block along x.

#include "common.cuh"

// As in the reference
template <typename Z>
struct Constants {
    static constexpr Z EPS = Z(1e-5), MOMENTUM = Z(0.1);
};

// 1 / sqrt(variance + EPS), and NaN for infinity
template <typename Z>
__device__ inline Z inverse_of(Z variance) {
    variance += Constants<Z>::EPS;
    return sqrt(variance) / variance;
}

// The column of a thread, and its rows: from `first` below `stop`, `step` apart. A block has `size` rows, from `start`.
template <int Width>
struct Part {
    int c, size, start, first, stop, step, rows;
    bool there;

    __device__ inline Part(int rows, int columns) : rows(rows) {
        c = blockIdx.x * Width + threadIdx.x % Width;
        there = c < columns;
        size = (rows + gridDim.y - 1) / gridDim.y;
        start = blockIdx.y * size;
        first = start + threadIdx.x / Width;
        stop = there ? start + rows_of(blockIdx.y) : 0;
        step = blockDim.x / Width;
    }
    // Of a block along y
    __device__ inline int rows_of(int block) const {
        return Smallest::of(size, rows - block * size);
    }
};

// Means and variances over the batch, and what becomes of the running ones; hat and out where a block has all rows.
// partials: (2 gridDim.y, columns), of which the first row becomes the means.
template <typename Z, int Width>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    batch_norm(const Z* z, const Z* gain, const Z* shift, Z* mean, Z* variance, Z* hat, Z* inverse, Z* out, int rows,
               int columns, Z* partials, unsigned* counters) {
    const Part<Width> part(rows, columns);
    const int c = part.c;
    Z sum = 0, square = 0;
#pragma unroll 4
    for (int r = part.first; r < part.stop; r += part.step) sum += z[static_cast<long long>(r) * columns + c];
    sum = over_column<Width, Sum>(sum);
    Z centre = sum / Z(part.rows_of(blockIdx.y));
#pragma unroll 4
    for (int r = part.first; r < part.stop; r += part.step) {
        const Z d = z[static_cast<long long>(r) * columns + c] - centre;
        square += d * d;
    }
    square = over_column<Width, Sum>(square);

    const bool writes = part.there && threadIdx.x < Width;
    if (gridDim.y > 1) {
        if (writes) {
            partials[static_cast<long long>(2 * blockIdx.y) * columns + c] = sum;
            partials[static_cast<long long>(2 * blockIdx.y + 1) * columns + c] = square;
        }
        if (!is_last(counters + blockIdx.x, gridDim.y)) return;
        const int blocks = part.there ? gridDim.y : 0;
        sum = square = 0;
        for (int i = threadIdx.x / Width; i < blocks; i += part.step)
            sum += partials[static_cast<long long>(2 * i) * columns + c];
        centre = over_column<Width, Sum>(sum) / Z(rows);
        for (int i = threadIdx.x / Width; i < blocks; i += part.step) {
            const Z count = Z(part.rows_of(i));
            const Z d = partials[static_cast<long long>(2 * i) * columns + c] / count - centre;
            square += partials[static_cast<long long>(2 * i + 1) * columns + c] + count * d * d;
        }
        square = over_column<Width, Sum>(square);
    }

    const Z now = square / Z(rows), scale = inverse_of(now);
    if (writes) {
        inverse[c] = scale;
        mean[c] += Constants<Z>::MOMENTUM * (centre - mean[c]);
        if (rows > 1) variance[c] += Constants<Z>::MOMENTUM * (now * (Z(rows) / Z(rows - 1)) - variance[c]);
        if (gridDim.y > 1) partials[c] = centre;
    }
    if (gridDim.y > 1) return;
    const Z by = part.there ? gain[c] : Z(0), more = part.there ? shift[c] : Z(0);
#pragma unroll 4
    for (int r = part.first; r < part.stop; r += part.step) {
        const long long place = static_cast<long long>(r) * columns + c;
        const Z h = (z[place] - centre) * scale;
        hat[place] = h;
        out[place] = h * by + more;
    }
}

// hat = (z - mean) inverse, out = gain hat + shift. hat: null, and what is given is the variance for the inverse.
// A thread takes `Wide` columns; packs: how many of them a row has.
template <typename Z, int Wide>
__global__ void normalize(const Z* z, const Z* gain, const Z* shift, const Z* mean, const Z* given, Z* hat, Z* out,
                          unsigned rows, unsigned packs) {
    const unsigned item = blockIdx.x * blockDim.x + threadIdx.x, r = item / packs, c = (item - r * packs) * Wide;
    if (r >= rows) return;
    const long long place = static_cast<long long>(item) * Wide;
    Pack<Z, Wide> values = loaded<Wide>(z + place), result;
#pragma unroll
    for (int j = 0; j < Wide; j++) {
        values.at[j] = (values.at[j] - mean[c + j]) * (hat ? given[c + j] : inverse_of(given[c + j]));
        result.at[j] = values.at[j] * gain[c + j] + shift[c + j];
    }
    if (hat) store<Wide>(hat + place, values);
    store<Wide>(out + place, result);
}

// The sum over its rows of dy hat: every thread gets that of its column.
template <int Width, typename T>
__device__ inline typename Arithmetic<T>::type sum_of_products(const Part<Width>& part, const T* dy, long long stride,
                                                               const typename Arithmetic<T>::type* hat, int columns) {
    typename Arithmetic<T>::type sum = 0;
#pragma unroll 4
    for (int r = part.first; r < part.stop; r += part.step)
        sum += widened(dy[r * stride + part.c]) * hat[static_cast<long long>(r) * columns + part.c];
    return over_column<Width, Sum>(sum);
}

// dgain = the sum over the batch of dy hat. partials: (gridDim.y, columns).
template <typename T, int Width>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    gain_gradient(const T* dy, long long stride, const typename Arithmetic<T>::type* hat,
                  typename Arithmetic<T>::type* dgain, int rows, int columns,
                  typename Arithmetic<T>::type* partials, unsigned* counters) {
    using Real = typename Arithmetic<T>::type;
    const Part<Width> part(rows, columns);
    const int c = part.c;
    const bool writes = part.there && threadIdx.x < Width;
    Real sum = sum_of_products<Width>(part, dy, stride, hat, columns);
    if (gridDim.y > 1) {
        if (writes) partials[static_cast<long long>(blockIdx.y) * columns + c] = sum;
        if (!is_last(counters + blockIdx.x, gridDim.y)) return;
        const int blocks = part.there ? gridDim.y : 0;
        sum = 0;
        for (int i = threadIdx.x / Width; i < blocks; i += part.step)
            sum += partials[static_cast<long long>(i) * columns + c];
        sum = over_column<Width, Sum>(sum);
    }
    if (writes) dgain[c] = sum;
}

// What dz of a column is made of: dz = (dy - less - hat by) factor
template <typename Real>
struct Gradient {
    Real less, by, factor;

    __device__ inline Gradient(Real dshift, Real dgain, Real gain, Real inverse, Real share)
        : less(dshift * share), by(dgain * share), factor(gain * inverse) {}
    __device__ inline Real of(Real dy, Real hat) const {
        return (dy - less - hat * by) * factor;
    }
};

// Of normalization over the batch, where a block has all rows. share: 1 / rows; `out` may be dy.
template <typename T, int Width>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    batch_norm_backward(const T* dy, long long stride, const typename Arithmetic<T>::type* gain,
                        const typename Arithmetic<T>::type* hat, const typename Arithmetic<T>::type* inverse,
                        const typename Arithmetic<T>::type* dshift, typename Arithmetic<T>::type* dgain,
                        typename Arithmetic<T>::type share, T* out, long long out_stride, int rows, int columns) {
    using Real = typename Arithmetic<T>::type;
    const Part<Width> part(rows, columns);
    const int c = part.c;
    const Real sum = sum_of_products<Width>(part, dy, stride, hat, columns);
    if (!part.there) return;
    if (threadIdx.x < Width) dgain[c] = sum;
    const Gradient<Real> gradient(dshift[c], sum, gain[c], inverse[c], share);
#pragma unroll 4
    for (int r = part.first; r < part.stop; r += part.step) {
        const Real h = hat[static_cast<long long>(r) * columns + c];
        out[r * out_stride + c] = Narrowed<T>::of(gradient.of(widened(dy[r * stride + c]), h));
    }
}

// The same, once dgain is there. A thread takes `Wide` columns; packs: how many of them a row has.
template <typename T, int Wide>
__global__ void batch_norm_gradient(const T* dy, long long stride, const typename Arithmetic<T>::type* gain,
                                    const typename Arithmetic<T>::type* hat,
                                    const typename Arithmetic<T>::type* inverse,
                                    const typename Arithmetic<T>::type* dshift,
                                    const typename Arithmetic<T>::type* dgain, typename Arithmetic<T>::type share,
                                    T* out, long long out_stride, unsigned rows, unsigned packs) {
    using Real = typename Arithmetic<T>::type;
    const unsigned item = blockIdx.x * blockDim.x + threadIdx.x, r = item / packs, c = (item - r * packs) * Wide;
    if (r >= rows) return;
    const Pack<T, Wide> dys = loaded<Wide>(dy + r * stride + c);
    const Pack<Real, Wide> hats = loaded<Wide>(hat + static_cast<long long>(item) * Wide);
    Pack<T, Wide> result;
#pragma unroll
    for (int j = 0; j < Wide; j++) {
        const Gradient<Real> gradient(dshift[c + j], dgain[c + j], gain[c + j], inverse[c + j], share);
        result.at[j] = Narrowed<T>::of(gradient.of(widened(dys.at[j]), hats.at[j]));
    }
    store<Wide>(out + r * out_stride + c, result);
}

// Over the layer: `Group` threads have a row, hat = (z - mean) inverse by its mean and variance.
template <typename Z, int Group>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    layer_norm(const Z* z, const Z* gain, const Z* shift, Z* hat, Z* inverse, Z* out, int rows, int columns) {
    const int lane = threadIdx.x % Group, r = blockIdx.x * (blockDim.x / Group) + threadIdx.x / Group;
    const int stop = r < rows ? columns : 0;
    const long long start = static_cast<long long>(r) * columns;
    Z mean = 0, variance = 0;
#pragma unroll 4
    for (int c = lane; c < stop; c += Group) mean += z[start + c];
    mean = over_group<Group, Sum>(mean) / Z(columns);
#pragma unroll 4
    for (int c = lane; c < stop; c += Group) {
        const Z d = z[start + c] - mean;
        variance += d * d;
    }
    variance = over_group<Group, Sum>(variance) / Z(columns);
    const Z scale = inverse_of(variance);
    if (r < rows && lane == 0) inverse[r] = scale;
#pragma unroll 4
    for (int c = lane; c < stop; c += Group) {
        const Z h = (z[start + c] - mean) * scale;
        hat[start + c] = h;
        out[start + c] = h * gain[c] + shift[c];
    }
}

// dz = inverse (d - mean d - hat mean(d hat)) with d = gain dy, the means over the row. `out` may be dy.
template <typename T, int Group>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    layer_norm_gradient(const T* dy, long long stride, const typename Arithmetic<T>::type* gain,
                        const typename Arithmetic<T>::type* hat, const typename Arithmetic<T>::type* inverse, T* out,
                        long long out_stride, int rows, int columns) {
    using Real = typename Arithmetic<T>::type;
    const int lane = threadIdx.x % Group, r = blockIdx.x * (blockDim.x / Group) + threadIdx.x / Group;
    const int stop = r < rows ? columns : 0;
    const long long start = static_cast<long long>(r) * columns;
    Real mean = 0, product = 0;
#pragma unroll 4
    for (int c = lane; c < stop; c += Group) {
        const Real d = widened(dy[r * stride + c]) * gain[c];
        mean += d;
        product += d * hat[start + c];
    }
    mean = over_group<Group, Sum>(mean) / Real(columns);
    product = over_group<Group, Sum>(product) / Real(columns);
    const Real scale = r < rows ? inverse[r] : Real(0);
#pragma unroll 4
    for (int c = lane; c < stop; c += Group) {
        const Real d = widened(dy[r * stride + c]) * gain[c];
        out[r * out_stride + c] = Narrowed<T>::of((d - mean - hat[start + c] * product) * scale);
    }
}

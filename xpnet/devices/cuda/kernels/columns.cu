// The gradient through an activation, and its sum over the batch.

#include "common.cuh"

// The slope of relu, told from its output
template <typename T>
struct Output {
    T y;
};

template <typename A>
__device__ inline auto slope_of(A value) {
    return widened(value);
}
template <typename T>
__device__ inline bool slope_of(Output<T> output) {
    return widened(output.y) > 0;
}

// out = dy * slope, db = its sum over the rows. `out` may be dy.
// A block takes 32 * Wide columns; gridDim.y blocks share the rows of these.
// partials: (gridDim.y, columns); counters: one for each block along x.
template <typename S, typename A, typename T, int Wide>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    slope_and_sum(const S* dy, long long dy_stride, const A* slope, long long slope_stride, T* out,
                  long long out_stride, typename Arithmetic<S>::type* db, int rows, int columns,
                  typename Arithmetic<S>::type* partials, unsigned* counters) {
    using Real = typename Arithmetic<S>::type;
    constexpr int width = WARP * Wide, together = Wide > 1 ? 2 : 4;
    const int y = threadIdx.x / WARP, step = blockDim.x / WARP;
    const int first = blockIdx.x * width, c = first + threadIdx.x % WARP * Wide;
    const int share = (rows + gridDim.y - 1) / gridDim.y, start = blockIdx.y * share;
    const int stop = Smallest::of(rows, start + share);

    Real sums[Wide] = {};
    for (int r = start + y; c < columns && r < stop; r += step * together) {
        Pack<S, Wide> dys[together];
        Pack<A, Wide> slopes[together];
#pragma unroll
        for (int i = 0; i < together; i++) {
            const long long row = r + i * step;
            if (row >= stop) continue;
            dys[i] = loaded<Wide>(dy + row * dy_stride + c);
            slopes[i] = loaded<Wide>(slope + row * slope_stride + c);
        }
#pragma unroll
        for (int i = 0; i < together; i++) {
            const long long row = r + i * step;
            if (row >= stop) continue;
            Pack<T, Wide> result;
#pragma unroll
            for (int j = 0; j < Wide; j++) {
                const Real dz = widened(dys[i].at[j]) * static_cast<Real>(slope_of(slopes[i].at[j]));
                sums[j] += dz;
                result.at[j] = Narrowed<T>::of(dz);
            }
            store<Wide>(out + row * out_stride + c, result);
        }
    }

    DYNAMIC_SHARED(Real, parts);  // (blockDim.x / 32, width)
#pragma unroll
    for (int j = 0; j < Wide; j++) parts[threadIdx.x * Wide + j] = sums[j];
    __syncthreads();
    const int here = Smallest::of(width, columns - first);
    Real* const mine = (gridDim.y == 1 ? db : partials + static_cast<long long>(blockIdx.y) * columns) + first;
    for (int i = threadIdx.x; i < here; i += blockDim.x) {
        Real sum = 0;
#pragma unroll 8
        for (int w = 0; w < step; w++) sum += parts[w * width + i];
        mine[i] = sum;
    }
    if (gridDim.y == 1 || !is_last(counters + blockIdx.x, gridDim.y)) return;
    add_rows(partials + first, gridDim.y, here, columns);
    for (int i = threadIdx.x; i < here; i += blockDim.x) db[first + i] = partials[first + i];
}

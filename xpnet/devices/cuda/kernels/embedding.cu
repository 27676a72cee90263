// Rows of tables in the place of codes, and the sums of what comes back for each row.

#include "common.cuh"

// The row that a code means: the nearest that there is, the first for NaN.
template <typename Real>
__device__ inline int row_meant(Real code, int rows) {
    return code > 0 ? (code < static_cast<Real>(rows - 1) ? static_cast<int>(code) : rows - 1) : 0;
}

// out[i] = table[codes[i]], a number a thread; items: numbers of out.
template <typename T>
__global__ void embedding_forward(const typename Arithmetic<T>::type* codes, long long code_stride,
                                  const typename Arithmetic<T>::type* table, int table_rows, T* out,
                                  long long out_stride, unsigned items, unsigned columns) {
    const unsigned item = blockIdx.x * blockDim.x + threadIdx.x, i = item / columns, c = item - i * columns;
    if (item >= items) return;
    const long long row = row_meant(codes[i * code_stride], table_rows);
    out[i * out_stride + c] = Narrowed<T>::of(table[row * columns + c]);
}

// meant[i] = the row that code i means: side by side, for all warps that look for theirs.
template <typename Real>
__global__ void rows_meant(const Real* codes, long long stride, int table_rows, int* meant, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) meant[i] = row_meant(codes[i * stride], table_rows);
}

// out[r] = the sum of the rows of dy whose code means r, in their order. A warp takes 32 columns of a row of the table,
// those of blockIdx.y: it looks at 32 codes at a time, and, where some are its own, loads all of these before it adds.
template <typename Real>
__global__ void embedding_backward(const int* meant, const Real* dy, long long dy_stride, Real* out, int count,
                                   int table_rows, int columns) {
    const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    const int c = blockIdx.y * WARP + lane;
    if (row >= table_rows) return;
    Real sum = 0;
    for (int first = 0; first < count; first += WARP) {
        const unsigned mine = __ballot_sync(ALL_LANES, first + lane < count && meant[first + lane] == row);
        if (mine == 0 || c >= columns) continue;
        const Real* const from = dy + first * dy_stride + c;
        Real found[WARP];
#pragma unroll
        for (int i = 0; i < WARP; i++) found[i] = (mine >> i & 1) ? from[i * dy_stride] : Real(0);
#pragma unroll
        for (int i = 0; i < WARP; i++) sum += found[i];
    }
    if (c < columns) out[static_cast<long long>(row) * columns + c] = sum;
}

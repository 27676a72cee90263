// Metrics: sums over a batch.

#include "common.cuh"

// out = the sum over rows of weight * score(r, lane), a score being the sum of what its `Group` threads say.
template <int Group, typename Z, typename Score>
__device__ inline void sum_over_rows(const Score& score, const Z* weights, Z* out, int rows, Z* partials,
                                     unsigned* counters) {
    const int lane = threadIdx.x % Group, group = threadIdx.x / Group, groups = blockDim.x / Group;
    Z sum = 0;
    for (int first = blockIdx.x * groups; first < rows; first += gridDim.x * groups) {
        const int r = first + group;
        const Z its_part = score(r < rows ? r : rows - 1, lane);
        if (r < rows) sum += weights ? weights[r] * its_part : its_part;
    }
    sum = over_block<Sum>(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
    if (gridDim.x > 1 && !add_blocks(partials, 1, counters, gridDim.x)) return;
    if (threadIdx.x == 0) *out = partials[0];
}

// Is a before b, or nothing else: larger, NaN being largest, and of equals the first
template <typename Z>
__device__ inline bool leads(Z a, int column, Z b, int other) {
    if (a != a || b != b) return a != a && (b == b || column < other);
    return a > b || (a == b && column < other);
}

// Samples whose largest score is that of their class
template <typename Z, typename Target, int Group>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    class_hits(const Z* z, const Target* t, const Z* weights, Z* out, int rows, int columns, Z* partials,
               unsigned* counters) {
    const auto score = [=](int r, int lane) {
        const Z* const row = z + static_cast<long long>(r) * columns;
        int best = lane < columns ? lane : 0;
        Z largest = row[best];
        for (int c = lane + Group; c < columns; c += Group) {
            const Z value = row[c];
            if (leads(value, c, largest, best)) largest = value, best = c;
        }
#pragma unroll
        for (int distance = 1; distance < Group; distance *= 2) {
            const Z value = __shfl_xor_sync(ALL_LANES, largest, distance);
            const int c = __shfl_xor_sync(ALL_LANES, best, distance);
            if (leads(value, c, largest, best)) largest = value, best = c;
        }
        return lane == 0 && static_cast<Target>(best) == t[r] ? Z(1) : Z(0);
    };
    sum_over_rows<Group>(score, weights, out, rows, partials, counters);
}

// Samples of which every label of 0 or 1 is on its side
template <typename Z, int Group>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    label_hits(const Z* z, const Z* t, const Z* weights, Z* out, int rows, int columns, Z* partials,
               unsigned* counters) {
    const auto score = [=](int r, int lane) {
        int wrong = 0;
        for (int c = lane; c < columns; c += Group) {
            const long long place = static_cast<long long>(r) * columns + c;
            if (Z(z[place] > 0) != t[place]) wrong = 1;
        }
        wrong = over_lanes<Group, Sum>(wrong);
        return lane == 0 && wrong == 0 ? Z(1) : Z(0);
    };
    sum_over_rows<Group>(score, weights, out, rows, partials, counters);
}

// The mean squares of each sample
template <typename Z, int Group>
__global__ void __launch_bounds__(LARGEST_BLOCK)
    squared_errors(const Z* y, const Z* t, const Z* weights, Z* out, int rows, int columns, Z* partials,
                   unsigned* counters) {
    const auto score = [=](int r, int lane) {
        Z sum = 0;
        for (int c = lane; c < columns; c += Group) {
            const long long place = static_cast<long long>(r) * columns + c;
            const Z error = y[place] - t[place];
            sum += error * error;
        }
        return sum / Z(columns);
    };
    sum_over_rows<Group>(score, weights, out, rows, partials, counters);
}

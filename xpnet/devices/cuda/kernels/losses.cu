// Losses, fused with their output layer: dz of the mean loss, its sum over the batch, and the sum of the losses.

#include "common.cuh"

// What a loss kernel is given, whatever the loss
template <typename Z, typename T>
struct Batch {
    const Z* z;        // (rows, columns)
    const Z* weights;  // (rows,) or null
    Z factor;          // of dz, without weights: scale / rows
    Z scale;           // of the sum over a sample's columns
    T* out;            // dz
    long long stride;  // of its rows
    Z* db;
    Z* loss;
    Z* hits;  // or null
    int rows, columns;
    Z* partials;         // (blocks, columns + 2)
    unsigned* counters;  // as add_blocks has them
    int fan;
};

// Each row belongs to a group of `Group` threads, each thread has `Entries` of its columns, `Group` apart. For a row,
// loss(v, r, there, lane, value, right) changes the thread's entries v from z to the gradient of the sample's loss, and
// adds the thread's part of the loss to value and, in one thread of the group, whether the row is right to right.
template <int Group, int Entries, typename Z, typename T, typename Loss>
__device__ inline void over_rows(const Batch<Z, T>& b, const Loss& loss) {
    const int lane = threadIdx.x % Group, group = threadIdx.x / Group, groups = blockDim.x / Group;
    Z total = 1;
    if (b.weights) {
        total = 0;
        for (int r = threadIdx.x; r < b.rows; r += blockDim.x) total += b.weights[r];
        total = over_block<Sum>(total);
        if (total == 0) total = infinity();
    }
    Z sums[Entries] = {}, value = 0, right = 0;
    for (int first = blockIdx.x * groups; first < b.rows; first += gridDim.x * groups) {
        const int r = first + group;
        const bool there = r < b.rows;
        const Z weight = b.weights && there ? b.weights[r] : Z(1);
        const Z factor = b.weights ? weight / total * b.scale : b.factor;
        Z v[Entries], its_value = 0, its_right = 0;
#pragma unroll
        for (int e = 0; e < Entries; e++) {
            const int c = e * Group + lane;
            v[e] = there && c < b.columns ? b.z[static_cast<long long>(r) * b.columns + c] : Z(0);
        }
        loss.template of<Group>(v, r, there, lane, its_value, its_right);
        if (!there) continue;
        value += weight * its_value;
        right += weight * its_right;
#pragma unroll
        for (int e = 0; e < Entries; e++) {
            const int c = e * Group + lane;
            if (c >= b.columns) continue;
            const Z dz = v[e] * factor;
            b.out[r * b.stride + c] = Narrowed<T>::of(dz);
            sums[e] += dz;
        }
    }

    const int columns = b.columns + 2;  // two more sums: the losses and the hits
    Z* const mine = b.partials + static_cast<long long>(blockIdx.x) * columns;
    const auto write = [&](int c, Z sum) {
        if (gridDim.x > 1)
            mine[c] = sum;
        else if (c < b.columns)
            b.db[c] = sum;
        else if (c == b.columns)
            *b.loss = sum * b.scale;
        else if (b.hits)
            *b.hits = sum;
    };
    if constexpr (Group <= WARP) {
        constexpr int width = Group * Entries + 2;
        DYNAMIC_SHARED(Z, parts);  // (warps, width)
        Z* const part = parts + threadIdx.x / WARP * width;
        value = over_lanes<WARP, Sum>(value);
        right = over_lanes<WARP, Sum>(right);
#pragma unroll
        for (int e = 0; e < Entries; e++) {
            sums[e] = over_lanes<WARP / Group, Sum, Group>(sums[e]);
            if (threadIdx.x % WARP < Group) part[e * Group + lane] = sums[e];
        }
        if (threadIdx.x % WARP == 0) {
            part[width - 2] = value;
            part[width - 1] = right;
        }
        __syncthreads();
        for (int c = threadIdx.x; c < columns; c += blockDim.x) {
            const int place = c < b.columns ? c : width - columns + c;
            Z sum = 0;
#pragma unroll 8
            for (int w = 0; w < static_cast<int>(blockDim.x) / WARP; w++) sum += parts[w * width + place];
            write(c, sum);
        }
    } else {
        value = over_block<Sum>(value);
        right = over_block<Sum>(right);
#pragma unroll
        for (int e = 0; e < Entries; e++)
            if (e * Group + lane < b.columns) write(e * Group + lane, sums[e]);
        if (threadIdx.x == 0) {
            write(b.columns, value);
            write(b.columns + 1, right);
        }
    }
    if (gridDim.x == 1 || !add_blocks(b.partials, columns, b.counters, b.fan)) return;
    for (int c = threadIdx.x; c < b.columns; c += blockDim.x) b.db[c] = b.partials[c];
    if (threadIdx.x == 0) {
        *b.loss = b.partials[b.columns] * b.scale;
        if (b.hits) *b.hits = b.partials[b.columns + 1];
    }
}

template <typename Target>
struct IsClass {
    static constexpr bool value = true;
};
template <>
struct IsClass<float> {
    static constexpr bool value = false;
};
template <>
struct IsClass<double> {
    static constexpr bool value = false;
};

template <typename Z, typename Target>
struct SoftmaxCrossEntropy {
    const Target* t;  // (rows,) classes or (rows, columns) probabilities
    Z log_smallest, smoothing;
    int columns;
    bool scored;

    template <int Group, int Entries>
    __device__ inline void of(Z (&v)[Entries], int r, bool there, int lane, Z& value, Z& right) const {
        Target target[IsClass<Target>::value ? 1 : Entries];
        if constexpr (IsClass<Target>::value) {
            target[0] = there ? t[r] : Target(-1);
        } else {
#pragma unroll
            for (int e = 0; e < Entries; e++) {
                const int c = e * Group + lane;
                target[e] = there && c < columns ? t[static_cast<long long>(r) * columns + c] : Target(0);
            }
        }
        Z largest;
#pragma unroll
        for (int e = 0; e < Entries; e++) {
            if (e * Group + lane >= columns) v[e] = -infinity();  // no column: its exponential is 0
            largest = e ? Largest::of(largest, v[e]) : v[e];
        }
        largest = over_group<Group, Largest>(largest);
        if constexpr (IsClass<Target>::value)
            if (scored) right += is_hit<Group>(v, lane, largest, target[0]);
        Z shifted[Entries], sum = 0;
#pragma unroll
        for (int e = 0; e < Entries; e++) {
            shifted[e] = v[e] - largest;
            v[e] = exp(shifted[e]);
            sum += v[e];
        }
        sum = over_group<Group, Sum>(sum);
        const Z log_sum = log(sum), kept = 1 - smoothing, share = smoothing / Z(columns);
#pragma unroll
        for (int e = 0; e < Entries; e++) {
            const int c = e * Group + lane;
            Z log_p = shifted[e] - log_sum, p = v[e] / sum;
            if (log_p < log_smallest) log_p = log_smallest;  // NaN stays
            Z wanted = share;
            if constexpr (IsClass<Target>::value) {
                if (target[0] == static_cast<Target>(c)) wanted += kept;
            } else {
                wanted += target[e] * kept;
            }
            v[e] = p - wanted;
            if (c < columns && wanted != 0) value -= log_p * wanted;
        }
    }

    // In one thread of the group 1 if the first of the largest entries is that of the class; NaN is larger than all.
    template <int Group, int Entries>
    __device__ inline Z is_hit(const Z (&v)[Entries], int lane, Z largest, Target target) const {
        int first = columns;
#pragma unroll
        for (int e = Entries - 1; e >= 0; e--) {
            const int c = e * Group + lane;
            if (c < columns && (v[e] == largest || v[e] != v[e])) first = c;
        }
        first = over_group<Group, Smallest>(first);
        return lane == 0 && target == static_cast<Target>(first) ? Z(1) : Z(0);
    }
};

template <typename Z, typename T, typename Target, int Group, int Entries>
__global__ void __launch_bounds__(Group > WARP ? Group : LARGEST_BLOCK, 1)
    softmax_cross_entropy(const Z* z, const Target* t, const Z* weights, Z log_smallest, Z smoothing, Z factor, T* out,
                          long long stride, Z* db, Z* loss, Z* hits, int rows, int columns, Z* partials,
                          unsigned* counters, int fan) {
    const Batch<Z, T> batch = {z,  weights, factor, Z(1),    out,     stride,   db,
                               loss, hits,    rows,   columns, partials, counters, fan};
    const bool scored = hits != nullptr;
    over_rows<Group, Entries>(batch, SoftmaxCrossEntropy<Z, Target>{t, log_smallest, smoothing, columns, scored});
}

// Losses of single entries: value and dy from y, or dz from z where the output is the loss's own, and t. bound: Huber's
// delta, the largest loss of a sigmoid

struct SquaredError {
    template <typename Z>
    static __device__ inline void of(Z y, Z t, Z, Z, Z& value, Z& dy) {
        const Z r = y - t;
        value = r * r;
        dy = 2 * r;
    }
};

struct AbsoluteError {
    template <typename Z>
    static __device__ inline void of(Z y, Z t, Z, Z, Z& value, Z& dy) {
        const Z r = y - t;
        value = fabs(r);
        dy = r > 0 ? Z(1) : r < 0 ? Z(-1) : r;  // 0 and NaN are their own
    }
};

struct Huber {
    template <typename Z>
    static __device__ inline void of(Z y, Z t, Z delta, Z, Z& value, Z& dy) {
        const Z r = y - t;
        dy = r < -delta ? -delta : r > delta ? delta : r;
        value = (r - dy * Z(0.5)) * dy;
    }
};

struct SigmoidCrossEntropy {
    template <typename Z>
    static __device__ inline void of(Z z, Z t, Z largest, Z smoothing, Z& value, Z& dz) {
        const Z e = exp(-fabs(z));  // never overflows
        t = t * (1 - smoothing) + smoothing * Z(0.5);
        value = (z > 0 ? z : Z(0)) + log1p(e) - z * t;
        if (value > largest) value = largest;  // NaN stays
        dz = (z > 0 ? 1 / (1 + e) : e / (1 + e)) - t;
    }
};

struct Poisson {  // y = exp(z)
    template <typename Z>
    static __device__ inline void of(Z z, Z t, Z, Z, Z& value, Z& dz) {
        dz = exp(z) - t;
        value = (log(t < SmallestNormal<Z>::value ? SmallestNormal<Z>::value : t) - z) * t + dz;
    }
};

template <typename Z, typename Loss>
struct Pointwise {
    const Z* slope;  // of the output activation, or null: 1
    const Z* t;
    Z bound, smoothing;
    int columns;

    template <int Group, int Entries>
    __device__ inline void of(Z (&v)[Entries], int r, bool there, int lane, Z& value, Z&) const {
#pragma unroll
        for (int e = 0; e < Entries; e++) {
            const int c = e * Group + lane;
            if (!there || c >= columns) continue;
            const long long place = static_cast<long long>(r) * columns + c;
            Z its_value, dy;
            Loss::of(v[e], t[place], bound, smoothing, its_value, dy);
            value += its_value;
            v[e] = slope ? dy * slope[place] : dy;
        }
    }
};

template <typename Z, typename T, typename Loss, int Group, int Entries>
__global__ void __launch_bounds__(Group > WARP ? Group : LARGEST_BLOCK, 1)
    pointwise_loss(const Z* y, const Z* slope, const Z* t, const Z* weights, Z bound, Z smoothing, Z factor, Z scale,
                   T* out, long long stride, Z* db, Z* loss, int rows, int columns, Z* partials, unsigned* counters,
                   int fan) {
    const Batch<Z, T> batch = {y,    weights, factor, scale,   out,      stride,   db,
                               loss, nullptr, rows,   columns, partials, counters, fan};
    over_rows<Group, Entries>(batch, Pointwise<Z, Loss>{slope, t, bound, smoothing, columns});
}

// Where a sample lies and what its four neighbours weigh. Computed once per sample by one lane, passed to the lanes
// that hold the channels through shared memory.

#define MAX_LEVELS 32

struct Levels {
    int count;
    int height[MAX_LEVELS], width[MAX_LEVELS];
    int start[MAX_LEVELS + 1];  // first pixel of each level, then their number
};

struct Sample {
    int pixel[4];     // (y, x), (y, x+1), (y+1, x), (y+1, x+1): index over all levels, clamped into the level
    unsigned held;    // bit c: corner c lies in the level; 0: the sample does not count
    Sum right, down;  // fractions, 0 <= … < 1
};

// x = location * width - 0.5 in pixels, likewise y. A sample counts where -1 < x < width and -1 < y < height; tested
// before the cast, for far coordinates have no integer, and false for NaN. A clamped corner repeats a corner that
// counts: a NaN in a pixel never reaches samples that do not touch it.
__device__ __forceinline__ Sample locate(const Levels& levels, int level, Sum across, Sum along) {
    const int width = levels.width[level], height = levels.height[level], start = levels.start[level];
    const Sum x = fma(across, static_cast<Sum>(width), static_cast<Sum>(-0.5));
    const Sum y = fma(along, static_cast<Sum>(height), static_cast<Sum>(-0.5));
    Sample sample;
    sample.held = 0;
    sample.right = sample.down = 0;
    sample.pixel[0] = sample.pixel[1] = sample.pixel[2] = sample.pixel[3] = start;
    if (x > -1 && y > -1 && x < width && y < height) {
        const Sum left = floor(x), top = floor(y);
        sample.right = x - left;
        sample.down = y - top;
        const int x0 = static_cast<int>(left), y0 = static_cast<int>(top);
        const bool west = x0 >= 0, east = x0 + 1 < width, north = y0 >= 0, south = y0 + 1 < height;
        sample.held = (west && north) | (east && north) << 1 | (west && south) << 2 | (east && south) << 3;
        const int xw = west ? x0 : 0, xe = east ? x0 + 1 : x0;
        const int upper = start + (north ? y0 : 0) * width, lower = start + (south ? y0 + 1 : y0) * width;
        sample.pixel[0] = upper + xw;
        sample.pixel[1] = upper + xe;
        sample.pixel[2] = lower + xw;
        sample.pixel[3] = lower + xe;
    }
    return sample;
}

// Bilinear weight of corner c, 0 where the corner is outside.
__device__ __forceinline__ Sum corner(const Sample& sample, int c) {
    const Sum across = c & 1 ? sample.right : 1 - sample.right;
    const Sum along = c & 2 ? sample.down : 1 - sample.down;
    return sample.held >> c & 1 ? across * along : static_cast<Sum>(0);
}

struct __align__(16) Pixels {
    int at[4];  // at[0] < 0: skip the sample
};
struct __align__(16) Factors {
    Sum of[4];
};

// A warp's samples in shared memory. Each group of lanes has LANES places and one of padding, so that the groups'
// broadcasts come from different banks.
constexpr int PLACES = WARP + GROUPS;
struct Stage {
    Pixels* pixels;
    Factors* factors;
};

// Who computes which sample: a group stages `queries` queries x `samples` samples at once, one per lane.
struct Share {
    int samples;        // of a query at a time
    int queries;        // of a group at a time; 1 where a query has more samples than the group has lanes
    int query, sample;  // this lane's; query >= queries: it has none
};

__device__ __forceinline__ Share share(int samples_per_query, int lane) {
    Share mine;
    mine.samples = samples_per_query < LANES ? samples_per_query : LANES;
    mine.queries = LANES / mine.samples;
    mine.query = lane / mine.samples;
    mine.sample = lane % mine.samples;
    return mine;
}

// One block's work: a tile of queries of one head of one image, so that all it reads of value is one head's.
struct Work {
    i64 image;
    int head;
    i64 begin, end;  // queries
};

__device__ __forceinline__ Work work_of(i64 index, int heads, i64 queries, i64 tile) {
    const i64 tiles = (queries + tile - 1) / tile;
    Work work;
    work.image = index / tiles / heads;
    work.head = static_cast<int>(index / tiles % heads);
    work.begin = index % tiles * tile;
    work.end = work.begin + tile < queries ? work.begin + tile : queries;
    return work;
}

// Copies channels [first, first + PITCH) of one head of one image into shared memory, pixel after pixel. `head` points
// to them in the first pixel.
template <int COLUMNS>
__device__ __forceinline__ void copy_tile(Value* tile, const Value* head, int pixels, i64 stride, int present) {
    for (int i = threadIdx.x; i < pixels * COLUMNS; i += blockDim.x) {
        const int pixel = i / COLUMNS, column = i % COLUMNS * VECTOR;
        if (column < present) copy(tile + pixel * (COLUMNS * VECTOR) + column, head + pixel * stride + column);
    }
}

// Sums part[c] over the group's lanes; with 4 lanes or more lane c writes the sum of c to to[c * pitch], c < count.
// Halving what each lane holds at each of the first two steps takes 5 shuffles for 16 lanes where 4 sums would take 16.
__device__ __forceinline__ void reduce_four(const Sum (&part)[4], int lane, Sum* to, int pitch, int count) {
    if (LANES == 1) {
#pragma unroll
        for (int c = 0; c < 4; ++c)
            if (c < count) to[c * pitch] = part[c];
        return;
    }
    // lanes with bit 0 set keep 1 and 3, the others 0 and 2
    const bool odd = lane & 1;
    Sum low = odd ? part[1] : part[0], high = odd ? part[3] : part[2];
    low += __shfl_xor_sync(FULL, odd ? part[0] : part[1], 1);
    high += __shfl_xor_sync(FULL, odd ? part[2] : part[3], 1);
    if (LANES == 2) {
        if (lane < count) to[lane * pitch] = low;
        if (lane + 2 < count) to[(lane + 2) * pitch] = high;
        return;
    }
    const bool lower = lane & 2;
    Sum sum = lower ? high : low;
    sum += __shfl_xor_sync(FULL, lower ? low : high, 2);
#pragma unroll
    for (int offset = 4; offset < LANES; offset *= 2) sum += __shfl_xor_sync(FULL, sum, offset);
    if (lane < 4 && lane < count) to[lane * pitch] = sum;
}

// Gradients of a sample's weight and location (x, y) from the products d[c] of grad_output with its neighbours:
//   d/d weight = sum of corner weight * d[c];   d/d location = weight * (width, height) * differences of d.
__device__ __forceinline__ void store_gradient(const Levels& levels, int level, const Sample& place, Sum weight,
                                               const Sum (&products)[4], Sum* of_weight, Sum* of_location) {
    Sum d[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) d[c] = place.held >> c & 1 ? products[c] : static_cast<Sum>(0);
    Sum sum = 0, x = 0, y = 0;
    if (place.held) {
#pragma unroll
        for (int c = 0; c < 4; ++c) sum += corner(place, c) * d[c];
        x = (1 - place.down) * (d[1] - d[0]) + place.down * (d[3] - d[2]);
        y = (1 - place.right) * (d[2] - d[0]) + place.right * (d[3] - d[1]);
        x *= weight * levels.width[level];
        y *= weight * levels.height[level];
    }
    *of_weight = sum;
    of_location[0] = x;
    of_location[1] = y;
}

// A row of grad_output that is to be added to a pixel's gradient, by number or by place; read and written in one access.
struct __align__(2 * sizeof(Sum)) Entry {
    int row;
    Sum factor;
};

// Exclusive sum of one number per thread over the block.
__device__ __forceinline__ int exclusive_sum(int number, int* warp_sums) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int sum = number;
#pragma unroll
    for (int offset = 1; offset < WARP; offset *= 2) {
        const int before = __shfl_up_sync(FULL, sum, offset);
        if (lane >= offset) sum += before;
    }
    if (lane == WARP - 1) warp_sums[warp] = sum;
    __syncthreads();
    int total = 0;
    for (int w = 0; w < warp; ++w) total += warp_sums[w];
    return total + sum - number;
}

// Backward, second half: grad_value without atomics, the same bits every time. gather.cu is faster where many pixels are
// read a few times each.
//
// A block owns a range of RANGE pixels of one head of one image and keeps their sums in registers: group g of its
// lanes owns pixels g, g + BLOCK_GROUPS, … of the range. It walks over the queries tile by tile. In each tile every
// thread places one sample; the corners that fall into the range are sorted by pixel (a stable counting sort in
// shared memory), and each group adds the rows of grad_output that its pixels' entries name, in the entries' order.
// Each row of grad_value is thus written once, in its own dtype, and nothing needs to be zero before.
//
// Few pixels and many queries (the extractor): the queries are split among `splits` blocks, whose sums go to `partial`
// and are added in order by combine_splits. STAGED: the tile's rows of grad_output are copied into shared memory first,
// for each is read 4 * samples times.
//
// POINTS (one range of whole rows, staged): the first half as well, in the same walk. A group has its pixel's row of
// value in registers beside the sums; the product of a row of grad_output with it takes the place of the entry's
// factor, and the thread that placed the sample finds its four there. Shared memory is read once for both halves.

// The build says how large a block is (layout.py): THREADS, the SUMS that a lane keeps in registers, and how many blocks
// of a multiprocessor its registers must allow, RESIDENT.
#define CAPACITY THREADS  // samples of a tile, one per thread
#define WARPS (THREADS / WARP)

constexpr int BLOCK_GROUPS = THREADS / LANES;
constexpr int LARGEST_RANGE = 256;  // a pixel costs two bytes of shared memory per warp
__device__ constexpr int choose_owned() {
    const int owned = SUMS / (ITEMS * VECTOR);
    const int most = LARGEST_RANGE / BLOCK_GROUPS;
    return owned < 1 || most < 1 ? 1 : owned < most ? owned : most;
}
constexpr int OWNED = choose_owned();
constexpr int RANGE = OWNED * BLOCK_GROUPS < LARGEST_RANGE ? OWNED * BLOCK_GROUPS : LARGEST_RANGE;


// Adds the rows that the entries name to their pixels' sums, and puts the product of each row with the pixel's own row
// of value in the place of the entry's factor. All lanes of a warp go through the same shuffles.
__device__ __forceinline__ void sum_and_multiply(Sum (&sums)[OWNED][ITEMS][VECTOR], const Value* source, i64 stride,
                                                 const Value* staged, Entry* entries, const int* starts, int group,
                                                 int lane) {
#pragma unroll
    for (int k = 0; k < OWNED; ++k) {
        const int pixel = k * BLOCK_GROUPS + forgotten(group);
        int at = 0, last = 0;
        if (pixel < RANGE) at = starts[pixel], last = starts[pixel + 1];
        Sum own[ITEMS][VECTOR];
#pragma unroll
        for (int i = 0; i < ITEMS; ++i) {
            if (at < last && (i * LANES + lane) * VECTOR < CHANNELS)
                load(source + pixel * stride + i * LANES * VECTOR, own[i]);
        }
        int turns = (last - at + 3) / 4;
#pragma unroll
        for (int offset = LANES; offset < WARP; offset *= 2) {
            const int other = __shfl_xor_sync(FULL, turns, offset);
            turns = turns < other ? other : turns;
        }
        for (; turns > 0; --turns, at += 4) {
            Sum part[4] = {0, 0, 0, 0};
#pragma unroll
            for (int u = 0; u < 4; ++u) {
                if (at + u >= last) continue;
                const Entry entry = entries[at + u];
#pragma unroll
                for (int i = 0; i < ITEMS; ++i) {
                    const int channel = (i * LANES + lane) * VECTOR;
                    if (channel >= CHANNELS) continue;
                    Sum numbers[VECTOR];
                    load(staged + entry.row * PITCH + channel, numbers);
#pragma unroll
                    for (int v = 0; v < VECTOR; ++v) {
                        sums[k][i][v] += entry.factor * numbers[v];
                        part[u] += own[i][v] * numbers[v];
                    }
                }
            }
            __syncwarp();  // all lanes of the group have read the factors that the products replace
            reduce_four(part, lane, &entries[at].factor, sizeof(Entry) / sizeof(Sum), last - at);
        }
    }
}

template <bool STAGED, bool POINTS>
__device__ __forceinline__ void value_gradient(const Value* __restrict__ grad_output, const Value* __restrict__ value,
                                               const Sum* __restrict__ locations, const Sum* __restrict__ weights,
                                               Value* __restrict__ grad_value, Sum* __restrict__ partial,
                                               Sum* __restrict__ grad_locations, Sum* __restrict__ grad_weights,
                                               const Levels& levels, i64 batch, int heads, int queries, int points,
                                               int splits, int rows) {
    SHARED_MEMORY(memory);
    unsigned char* cursor = memory;
    const int pixels = levels.start[levels.count], all_samples = levels.count * points;
    Entry* entries = carve<Entry>(cursor, 4 * CAPACITY);
    unsigned short* counts = carve<unsigned short>(cursor, WARPS * RANGE);  // per warp and pixel
    int* starts = carve<int>(cursor, RANGE + 1);                            // of each pixel's entries
    int* warp_sums = carve<int>(cursor, WARPS);
    Value* staged = STAGED ? carve<Value>(cursor, rows * PITCH) : nullptr;
    Sum* kept = POINTS ? carve<Sum>(cursor, 3 * THREADS) : nullptr;  // per thread, registers being short
    const int thread = threadIdx.x, warp = thread / WARP, lane = thread % LANES, group = thread / LANES;
    const unsigned lanes_before = (1u << (thread % WARP)) - 1;
    unsigned short* own_counts = counts + warp * RANGE;
    const i64 stride = static_cast<i64>(heads) * CHANNELS;
    const int ranges = POINTS ? 1 : (pixels + RANGE - 1) / RANGE;
    const i64 blocks = batch * heads * ranges * splits * SLABS;

    for (i64 index = blockIdx.x; index < blocks; index += gridDim.x) {
        const int first = static_cast<int>(index % SLABS) * PITCH;
        const int split = static_cast<int>(index / SLABS % splits);
        const int begin = POINTS ? 0 : static_cast<int>(index / SLABS / splits % ranges) * RANGE;
        const int end = begin + RANGE < pixels ? begin + RANGE : pixels;
        const i64 head_index = index / SLABS / splits / ranges;
        const int head = static_cast<int>(head_index % heads);
        const i64 image = head_index / heads;
        const Value* gradient = grad_output + image * queries * stride + static_cast<i64>(head) * CHANNELS + first;

        // only the levels that the range touches have samples for it
        int first_level = 0, last_level = levels.count - 1;
        while (!POINTS && levels.start[first_level + 1] <= begin) ++first_level;
        while (!POINTS && levels.start[last_level] >= end) --last_level;
        const int samples = (last_level - first_level + 1) * points;
        const int samples_at_once = samples < CAPACITY ? samples : CAPACITY;
        int tile_rows = CAPACITY / samples_at_once;
        tile_rows = tile_rows < rows ? tile_rows : rows;
        // tile t holds queries t, t + tiles, …: neighbours look at the same pixels, and a mixed tile shares its work
        // out evenly among the owners
        const int tiles = (queries + tile_rows - 1) / tile_rows;

        Sum sums[OWNED][ITEMS][VECTOR];
#pragma unroll
        for (int k = 0; k < OWNED; ++k)
#pragma unroll
            for (int i = 0; i < ITEMS; ++i)
#pragma unroll
                for (int v = 0; v < VECTOR; ++v) sums[k][i][v] = 0;

        for (int tile = split; tile < tiles; tile += splits) {
            const int present = (queries - tile + tiles - 1) / tiles;
            for (int base = 0; base < (POINTS ? 1 : samples); base += samples_at_once) {
                const int width = samples - base < samples_at_once ? samples - base : samples_at_once;
                const int row = thread / width, sample = base + thread % width, level = first_level + sample / points;
                const i64 query = image * queries + (tile + row * tiles);
                const i64 at = (query * heads + head) * all_samples + first_level * points + sample;
                Sum across = -1, along = -1, weight = 0;  // outside
                if (row < present) across = locations[2 * at], along = locations[2 * at + 1], weight = weights[at];
                if (STAGED && base == 0) {
                    for (int i = thread; i < present * (PITCH / VECTOR); i += THREADS) {
                        const int place = i / (PITCH / VECTOR), column = i % (PITCH / VECTOR) * VECTOR;
                        if (column < CHANNELS - first)
                            copy(staged + place * PITCH + column, gradient + (tile + place * tiles) * stride + column);
                    }
                }
                for (int i = thread; i < WARPS * RANGE; i += THREADS) counts[i] = 0;
                __syncthreads();

                // rank of each corner among its warp's corners of the same pixel; bits 16 on: the pixel
                const Sample place = locate(levels, row < present ? level : 0, across, along);
                unsigned ranks[4];
                Sum factors[4];
#pragma unroll
                for (int c = 0; c < 4; ++c) {
                    const bool mine = place.held >> c & 1 && place.pixel[c] >= begin && place.pixel[c] < end;
                    const int pixel = mine ? place.pixel[c] - begin : RANGE;
                    factors[c] = mine ? weight * corner(place, c) : static_cast<Sum>(0);
                    const unsigned same = __match_any_sync(FULL, pixel);
                    const int before = __popc(same & lanes_before);
                    const int known = mine ? own_counts[pixel] : 0;
                    __syncwarp();  // all have read the count before one raises it
                    if (mine && before == 0) own_counts[pixel] = static_cast<unsigned short>(known + __popc(same));
                    __syncwarp();
                    ranks[c] = static_cast<unsigned>(pixel) << 16 | static_cast<unsigned>(known + before);
                }
                __syncthreads();

                // counts become each warp's start within the pixel's entries, starts the pixels' starts
                int total = 0;
                if (thread < RANGE) {
                    for (int w = 0; w < WARPS; ++w) {
                        const int count = counts[w * RANGE + thread];
                        counts[w * RANGE + thread] = static_cast<unsigned short>(total);
                        total += count;
                    }
                }
                const int start = exclusive_sum(total, warp_sums);
                if (thread < RANGE) starts[thread] = start;
                if (thread == RANGE - 1) starts[RANGE] = start + total;
                __syncthreads();

                unsigned slots[2] = {0, 0};  // of the sample's entries, from 1 on, 16 bits each
#pragma unroll
                for (int c = 0; c < 4; ++c) {
                    const int pixel = ranks[c] >> 16;
                    if (pixel == RANGE) continue;
                    Entry entry;
                    entry.row = row;
                    entry.factor = factors[c];
                    const int slot = starts[pixel] + own_counts[pixel] + (ranks[c] & 0xffff);
                    entries[slot] = entry;
                    slots[c / 2] |= (slot + 1u) << c % 2 * 16;
                }
                if (POINTS) {
                    kept[thread] = place.right;
                    kept[THREADS + thread] = place.down;
                    kept[2 * THREADS + thread] = weight;
                }
                __syncthreads();

                if (POINTS) {
                    const Value* source =
                        value + (image * pixels + begin) * stride + static_cast<i64>(head) * CHANNELS + lane * VECTOR;
                    sum_and_multiply(sums, source, stride, staged, entries, starts, group, lane);
                    __syncthreads();  // the products are there; staged rows may be written again
                    const int again = forgotten(thread), own_row = again / width, own_sample = base + again % width;
                    if (own_row < present) {
                        Sample own;
                        own.held = 0;
                        own.right = kept[again];
                        own.down = kept[THREADS + again];
                        Sum products[4] = {0, 0, 0, 0};
#pragma unroll
                        for (int c = 0; c < 4; ++c) {
                            const int slot = slots[c / 2] >> c % 2 * 16 & 0xffff;
                            if (slot == 0) continue;
                            own.held |= 1u << c;
                            products[c] = entries[slot - 1].factor;
                        }
                        const i64 to = ((image * queries + (tile + own_row * tiles)) * heads + head) * all_samples +
                                       own_sample;
                        store_gradient(levels, own_sample / points, own, kept[2 * THREADS + again], products,
                                       grad_weights + to, grad_locations + 2 * to);
                    }
                    continue;
                }

#pragma unroll
                for (int k = 0; k < OWNED; ++k) {
                    const int pixel = k * BLOCK_GROUPS + group;
                    if (pixel >= RANGE) continue;
                    const int last = starts[pixel + 1];
#pragma unroll 2
                    for (int e = starts[pixel]; e < last; ++e) {
                        const Entry entry = entries[e];
                        const Value* from = STAGED ? staged + entry.row * PITCH
                                                   : gradient + (tile + entry.row * tiles) * stride;
#pragma unroll
                        for (int i = 0; i < ITEMS; ++i) {
                            const int channel = (i * LANES + lane) * VECTOR;
                            if (channel >= CHANNELS - first) continue;
                            Sum numbers[VECTOR];
                            load(from + channel, numbers);
#pragma unroll
                            for (int v = 0; v < VECTOR; ++v) sums[k][i][v] += entry.factor * numbers[v];
                        }
                    }
                }
                __syncthreads();  // before counts, entries and staged rows are written again
            }
        }

#pragma unroll
        for (int k = 0; k < OWNED; ++k) {
            const int pixel = begin + k * BLOCK_GROUPS + group;
            if (pixel >= end) continue;
            const i64 to = (image * pixels + pixel) * stride + static_cast<i64>(head) * CHANNELS + first;
#pragma unroll
            for (int i = 0; i < ITEMS; ++i) {
                const int channel = (i * LANES + lane) * VECTOR;
                if (channel >= CHANNELS - first) continue;
                if (splits == 1) {
                    store(grad_value + to + channel, sums[k][i]);
                } else {
                    store_sums(partial + split * batch * pixels * stride + to + channel, sums[k][i]);
                }
            }
        }
    }
}

#define VALUES_KERNEL(name, staged, points_too)                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)                                                    \
        name(const Value* __restrict__ grad_output, const Value* __restrict__ value,                                  \
             const Sum* __restrict__ locations, const Sum* __restrict__ weights, Value* __restrict__ grad_value,      \
             Sum* __restrict__ partial, Sum* __restrict__ grad_locations, Sum* __restrict__ grad_weights,             \
             const __grid_constant__ Levels levels, i64 batch, int heads, int queries, int points, int splits,        \
             int rows) {                                                                                              \
        value_gradient<staged, points_too>(grad_output, value, locations, weights, grad_value, partial,               \
                                           grad_locations, grad_weights, levels, batch, heads, queries, points,       \
                                           splits, rows);                                                             \
    }

VALUES_KERNEL(values_direct, false, false)
VALUES_KERNEL(values_staged, true, false)
VALUES_KERNEL(values_and_points, true, SLABS == 1)  // only launched with one slab

// grad_value = sum over splits of partial (splits, size), in order.
extern "C" __global__ void __launch_bounds__(256)
    combine_splits(const Sum* __restrict__ partial, Value* __restrict__ grad_value, i64 size, int splits) {
    const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) {
        Sum sum = 0;
        for (int split = 0; split < splits; ++split) sum += partial[split * size + i];
        grad_value[i] = narrow(sum);
    }
}

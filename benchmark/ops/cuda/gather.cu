// Backward, second half, where many pixels are read a few times each (the injector): grad_value without atomics, the
// same bits every time, in two kernels. values.cu is the way for many reads of a pixel.
//
// sort_corners: one block per image, head and level sorts the corners that lie in the level by pixel, in shared memory:
// counted and placed by integer atomics, whose order is open, then ranked within the pixel, which makes it fixed. A
// pixel's entries follow each other in global memory; its segment says from where to where.
// gather_values: each group of lanes adds the rows of grad_output that its pixel's entries name, in their order, and
// writes the row of grad_value once, in its own dtype; pixels that nobody reads get zeros, so nothing is cleared before.
//
// An entry's row is where it begins, counted from its image's and head's first number of grad_output.
// Every level has its own part of `entries`, room for all its samples' corners, so that its block need not know how
// many corners lie in the levels before it.

// Entries of a pixel, counted from its image's and head's first.
struct __align__(8) Segment {
    int begin, end;
};

// `staged`: entries are put in order in shared memory and copied from there in whole lines, where there is room for it.
extern "C" __global__ void __launch_bounds__(512, sizeof(Sum) == 8 ? 2 : 3)
    sort_corners(const Sum* __restrict__ locations, const Sum* __restrict__ weights, Segment* __restrict__ segments,
                 Entry* __restrict__ entries, const __grid_constant__ Levels levels, i64 batch, int heads, int queries,
                 int points, int largest_level, int staged) {
    SHARED_MEMORY(memory);
    unsigned char* cursor = memory;
    const int samples = queries * points, corners = 4 * samples, all_samples = levels.count * points;
    int* ends = carve<int>(cursor, largest_level);  // per pixel: its corners, then its segment's begin, then its end
    int* warp_sums = carve<int>(cursor, blockDim.x / WARP);
    unsigned short* ids = carve<unsigned short>(cursor, corners);  // 4 * sample + corner, of each place in a segment
    Entry* ordered = carve<Entry>(cursor, staged ? corners : 0);
    const int thread = threadIdx.x, threads = blockDim.x;
    const int blocks = static_cast<int>(batch) * heads * levels.count;

    for (int index = blockIdx.x; index < blocks; index += gridDim.x) {
        // heads that follow each other: they share the lines of locations and weights
        const int head = index % heads, level = index / heads % levels.count, image = index / heads / levels.count;
        const int first = levels.start[level], pixels = levels.start[level + 1] - first;
        const i64 head_index = static_cast<i64>(image) * heads + head;
        const i64 own = (static_cast<i64>(image) * queries * heads + head) * all_samples + level * points;
        // of sample i, which is point i % points of query i / points; unsigned, for that division is shorter
        const auto at = [&](unsigned i) {
            const unsigned query = i / points;
            return own + static_cast<i64>(query) * (heads * all_samples) + (i - query * points);
        };
        const auto place_of = [&](unsigned i) {
            return locate(levels, level, locations[2 * at(i)], locations[2 * at(i) + 1]);
        };
        Entry* target = staged ? ordered : entries + (head_index * levels.count + level) * corners;

        for (int p = thread; p < pixels; p += threads) ends[p] = 0;
        __syncthreads();
        for (int i = thread; i < samples; i += threads) {
            const Sample place = place_of(i);
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (place.held >> c & 1) atomicAdd(ends + (place.pixel[c] - first), 1);
        }
        __syncthreads();

        // an odd number of pixels per thread: neighbours read from different banks
        const int share = (pixels + threads - 1) / threads | 1;
        const int from = thread * share < pixels ? thread * share : pixels;
        const int to = from + share < pixels ? from + share : pixels;
        int sum = 0;
        for (int p = from; p < to; ++p) sum += ends[p];
        sum = exclusive_sum(sum, warp_sums);
        for (int p = from; p < to; ++p) {
            const int count = ends[p];
            ends[p] = sum;
            sum += count;
        }
        __syncthreads();

        for (int i = thread; i < samples; i += threads) {
            const Sample place = place_of(i);
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                if (!(place.held >> c & 1)) continue;
                ids[atomicAdd(ends + (place.pixel[c] - first), 1)] = static_cast<unsigned short>(4 * i + c);
            }
        }
        __syncthreads();

        // every begin has become the end, which is the next pixel's begin
        for (int p = thread; p < pixels; p += threads) {
            Segment segment;
            segment.begin = level * corners + (p > 0 ? ends[p - 1] : 0);
            segment.end = level * corners + ends[p];
            segments[head_index * levels.start[levels.count] + first + p] = segment;
        }
        for (int i = thread; i < samples; i += threads) {
            const Sample place = place_of(i);
            const Sum weight = weights[at(i)];
            const int row = static_cast<int>(i / static_cast<unsigned>(points)) * heads * CHANNELS;
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                if (!(place.held >> c & 1)) continue;
                const int pixel = place.pixel[c] - first, end = ends[pixel];
                int slot = pixel > 0 ? ends[pixel - 1] : 0;
#pragma unroll 4
                for (int other = slot, id = 4 * i + c; other < end; ++other) slot += ids[other] < id;
                Entry entry;
                entry.row = row;
                entry.factor = weight * corner(place, c);
                target[slot] = entry;
            }
        }
        __syncthreads();  // before the entries are copied, before the next level's corners are counted
        if (staged) {
            Entry* copied = entries + (head_index * levels.count + level) * corners;
            const int count = pixels > 0 ? ends[pixels - 1] : 0;
            for (int e = thread; e < count; e += threads) copied[e] = ordered[e];
            __syncthreads();
        }
    }
}

// The build says how many entries' rows a lane has on the way at a time, ROWS_AT_ONCE, and how many blocks of a
// multiprocessor the registers must allow, GATHERING (layout.py); of wide rows a lane holds one.
constexpr int AT_ONCE = ITEMS * VECTOR <= 8 ? ROWS_AT_ONCE : 1;
constexpr bool WHOLE = CHANNELS % (ITEMS * LANES * VECTOR) == 0;  // no lane without channels

__device__ __forceinline__ void add_rows(Sum (&sums)[ITEMS][VECTOR], const Value* gradient, const Entry* at, int count,
                                         int channels) {
#pragma unroll 1
    for (; count > 0; count -= AT_ONCE, at += AT_ONCE) {
        Entry entry[AT_ONCE];
        Pack rows[AT_ONCE][ITEMS];
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
            if (u < count) entry[u] = read_only(at + u);
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u) {
            if (u >= count) continue;
            const Value* row = gradient + entry[u].row;
#pragma unroll
            for (int i = 0; i < ITEMS; ++i)
                if (WHOLE || i * LANES * VECTOR < channels)
                    rows[u][i] = read_only(reinterpret_cast<const Pack*>(row + i * LANES * VECTOR));
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u) {
            if (u >= count) continue;
#pragma unroll
            for (int i = 0; i < ITEMS; ++i) {
                if (!WHOLE && i * LANES * VECTOR >= channels) continue;
                Sum numbers[VECTOR];
                load(reinterpret_cast<const Value*>(&rows[u][i]), numbers);
#pragma unroll
                for (int v = 0; v < VECTOR; ++v) sums[i][v] += entry[u].factor * numbers[v];
            }
        }
    }
}

// A block takes `tile` pixels of one head, of one slab, whose rows of grad_output its multiprocessor's cache then holds.
extern "C" __global__ void __launch_bounds__(256, ITEMS > 1 ? 3 : GATHERING)
    gather_values(const Value* __restrict__ grad_output, const Segment* __restrict__ segments,
                  const Entry* __restrict__ entries, Value* __restrict__ grad_value, i64 batch, int heads, int queries,
                  int pixels, int room, int tile) {
    const int lane = threadIdx.x % LANES, group = threadIdx.x / LANES, groups = blockDim.x / LANES;
    const int stride = heads * CHANNELS, images = static_cast<int>(batch);
    const int tiles = (pixels + tile - 1) / tile, blocks = tiles * images * heads * SLABS;

    for (unsigned index = blockIdx.x; index < blocks; index += gridDim.x) {
        // neighbouring blocks write neighbouring heads; the last pixels, of the smallest level, have the longest
        // segments and come first
        const int first = static_cast<int>(index % SLABS) * PITCH + lane * VECTOR, rest = index / SLABS;
        const int head = rest % heads, image = rest / heads % images, begin = (tiles - 1 - rest / heads / images) * tile;
        const int end = begin + tile < pixels ? begin + tile : pixels;
        const i64 head_index = static_cast<i64>(image) * heads + head;
        const i64 offset = static_cast<i64>(head) * CHANNELS + first;
        const Value* gradient = held(grad_output + static_cast<i64>(image) * queries * stride + offset);
        const Entry* of_head = held(entries + head_index * room);
        const Segment* own = held(segments + head_index * pixels + begin + group);
        Value* to = held(grad_value + (static_cast<i64>(image) * pixels + begin + group) * stride + offset);

        Segment next = {0, 0};
        if (begin + group < end) next = read_only(own);
        for (int left = end - begin - group; left > 0; left -= groups) {
            const Segment segment = next;
            own += groups;
            if (left > groups) next = read_only(own);
            Sum sums[ITEMS][VECTOR];
#pragma unroll
            for (int i = 0; i < ITEMS; ++i)
#pragma unroll
                for (int v = 0; v < VECTOR; ++v) sums[i][v] = 0;
            add_rows(sums, gradient, of_head + segment.begin, segment.end - segment.begin, CHANNELS - first);
#pragma unroll
            for (int i = 0; i < ITEMS; ++i)
                if (WHOLE || i * LANES * VECTOR < CHANNELS - first) store(to + i * LANES * VECTOR, sums[i]);
            to += static_cast<i64>(groups) * stride;
        }
    }
}

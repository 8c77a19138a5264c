// Forward: out[b, q, h, :] = sum over samples of weight * bilinear value[b, :, h, :].
//
// TILE: one head's value of one image is copied into shared memory and a block takes many queries of it: few pixels
// and many queries (the extractor), where each value is read hundreds of times. Otherwise values come from global
// memory: many pixels, few queries (the injector).
//
// The build says how large a block of forward_tile is (layout.py): TILE_THREADS, and TILE_RESIDENT, the blocks of a
// multiprocessor that its registers must allow.

constexpr bool EVEN = ROW % (ITEMS * LANES) == 0;  // no lane of any slab idles

// What a lane stages of one sample, read one turn before it is needed: the memory's latency passes meanwhile.
struct Raw {
    Sum across, along, weight;
    bool present;
};

// `row`: of the tile's first query, whose head has its samples there.
__device__ __forceinline__ Raw fetch(const Sum* __restrict__ locations, const Sum* __restrict__ weights, i64 row,
                                     int query, int heads, int samples, int sample, int present, bool idle) {
    Raw raw = {0, 0, 0, !idle && query < present && sample < samples};
    if (raw.present) {
        const i64 at = (row + static_cast<i64>(query) * heads) * samples + sample;
        raw.across = locations[2 * at], raw.along = locations[2 * at + 1], raw.weight = weights[at];
    }
    return raw;
}

// Adds one staged sample to the sums. `from` is this lane's first channel, of pixel 0; in a tile the staged numbers are
// offsets in bytes, and a sample that does not count points to the row of zeros behind the last pixel.
template <bool TILE>
__device__ __forceinline__ void add_sample(Sum (&sums)[ITEMS][VECTOR], const Pixels& where, const Factors& factors,
                                           const Value* from, i64 stride, int lane, int channels) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
        const Value* row = TILE ? reinterpret_cast<const Value*>(reinterpret_cast<const char*>(from) + where.at[c])
                                : from + where.at[c] * stride;
#pragma unroll
        for (int i = 0; i < ITEMS; ++i) {
            if (!EVEN && (i * LANES + lane) * VECTOR >= channels) continue;
            Sum numbers[VECTOR];
            load(row + i * LANES * VECTOR, numbers);
#pragma unroll
            for (int v = 0; v < VECTOR; ++v) sums[i][v] += factors.of[c] * numbers[v];
        }
    }
}

template <bool TILE>
__device__ __forceinline__ void forward(const Value* __restrict__ value, const Sum* __restrict__ locations,
                                        const Sum* __restrict__ weights, Value* __restrict__ out, const Levels& levels,
                                        i64 batch, int heads, i64 queries, int points, i64 tile_queries) {
    SHARED_MEMORY(memory);
    unsigned char* cursor = memory;
    const int pixels = levels.start[levels.count], samples = levels.count * points;
    const int warp = threadIdx.x / WARP, warps = (TILE ? TILE_THREADS : blockDim.x) / WARP;
    const int lane = threadIdx.x % LANES, group = threadIdx.x % WARP / LANES;
    Stage stage;
    stage.pixels = carve<Pixels>(cursor, warps * PLACES) + warp * PLACES + group * (LANES + 1);
    stage.factors = carve<Factors>(cursor, warps * PLACES) + warp * PLACES + group * (LANES + 1);
    Value* tile = TILE ? carve<Value>(cursor, (pixels + 1) * PITCH) : nullptr;
    if (TILE) {
        for (int i = threadIdx.x; i < PITCH; i += blockDim.x) tile[pixels * PITCH + i] = 0;
    }
    const Share mine = share(samples, lane);
    const i64 stride = static_cast<i64>(heads) * CHANNELS;
    const i64 blocks = (queries + tile_queries - 1) / tile_queries * heads * batch * SLABS;
    const int step = GROUPS * mine.queries, own_level = mine.sample / points;

    for (i64 index = blockIdx.x; index < blocks; index += gridDim.x) {
        const int first = static_cast<int>(index % SLABS) * PITCH, channels = CHANNELS - first;
        const Work work = work_of(index / SLABS, heads, queries, tile_queries);
        const Value* source = value + work.image * pixels * stride + static_cast<i64>(work.head) * CHANNELS + first;
        const int present = static_cast<int>(work.end - work.begin);
        const i64 row = (work.image * queries + work.begin) * heads + work.head;  // of the first query's samples
        const bool idle = mine.query >= mine.queries;
        int own = warp * step + group * mine.queries;
        Raw raw;
        if (TILE) raw = fetch(locations, weights, row, own + mine.query, heads, samples, mine.sample, present, idle);
        if (TILE) {
            __syncthreads();  // the previous tile is no longer read
            copy_tile<PITCH / VECTOR>(tile, source, pixels, stride, channels);
            __syncthreads();
        }
        const Value* from = (TILE ? tile : source) + lane * VECTOR;
        // the loops below turn equally often for all lanes of a warp, as __syncwarp needs
        for (int query = warp * step; query < present; query += warps * step, own += warps * step) {
            Sum sums[ITEMS][VECTOR];
            Value* to = out + (row + static_cast<i64>(own) * heads) * CHANNELS + first + lane * VECTOR;
            for (int base = 0; base < samples; base += mine.samples) {
                const int sample = base + mine.sample;
                if (!TILE) raw = fetch(locations, weights, row, own + mine.query, heads, samples, sample, present,
                                       idle);
                if (raw.present) {
                    const int level = base == 0 ? own_level : sample / points;
                    const Sample place = locate(levels, level, raw.across, raw.along);
                    Pixels where;
                    Factors factors;
#pragma unroll
                    for (int c = 0; c < 4; ++c) {
                        if (TILE) {
                            const int pixel = place.held ? place.pixel[c] : pixels;
                            where.at[c] = pixel * static_cast<int>(PITCH * sizeof(Value));
                            factors.of[c] = place.held ? raw.weight * corner(place, c) : static_cast<Sum>(0);
                        } else {
                            where.at[c] = place.held ? place.pixel[c] : -1;
                            factors.of[c] = raw.weight * corner(place, c);
                        }
                    }
                    stage.pixels[lane] = where;
                    stage.factors[lane] = factors;
                }
                const bool last = base + mine.samples >= samples;
                if (TILE) {
                    const int next = last ? mine.sample : sample + mine.samples, turned = last ? warps * step : 0;
                    raw = fetch(locations, weights, row, own + mine.query + turned, heads, samples, next, present,
                                idle);
                }
                __syncwarp();
                const int count = last ? samples - base : mine.samples;
                for (int turn = 0; turn < mine.queries && own + turn < present; ++turn) {
                    if (base == 0) {
#pragma unroll
                        for (int i = 0; i < ITEMS; ++i)
#pragma unroll
                            for (int v = 0; v < VECTOR; ++v) sums[i][v] = 0;
                    }
                    const int end = turn * mine.samples + count;
                    int s = turn * mine.samples;
                    if (TILE) {  // what a query mostly has: a multiple of four points
                        for (; s + 4 <= end; s += 4) {
#pragma unroll
                            for (int u = 0; u < 4; ++u) {
                                const Pixels where = stage.pixels[s + u];
                                const Factors factors = stage.factors[s + u];
                                add_sample<TILE>(sums, where, factors, from, stride, lane, channels);
                            }
                        }
                    }
#pragma unroll(TILE ? 1 : 2)
                    for (; s < end; ++s) {
                        const Pixels where = stage.pixels[s];
                        if (!TILE && where.at[0] < 0) continue;
                        const Factors factors = stage.factors[s];
                        add_sample<TILE>(sums, where, factors, from, stride, lane, channels);
                    }
                    if (!last) continue;
#pragma unroll
                    for (int i = 0; i < ITEMS; ++i) {
                        if (EVEN || (i * LANES + lane) * VECTOR < channels) store(to + i * LANES * VECTOR, sums[i]);
                    }
                    to += stride;
                }
                __syncwarp();  // before the places are written again
            }
        }
    }
}

#define ARGUMENTS                                                                                                  \
    const Value *__restrict__ value, const Sum *__restrict__ locations, const Sum *__restrict__ weights,           \
        Value *__restrict__ out, const __grid_constant__ Levels levels, i64 batch, int heads, i64 queries, int points, \
        i64 tile_queries

extern "C" __global__ void __launch_bounds__(256, ITEMS > 1 ? 2 : 3) forward_global(ARGUMENTS) {
    forward<false>(value, locations, weights, out, levels, batch, heads, queries, points, tile_queries);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS, ITEMS > 1 ? 1 : TILE_RESIDENT) forward_tile(ARGUMENTS) {
    forward<true>(value, locations, weights, out, levels, batch, heads, queries, points, tile_queries);
}

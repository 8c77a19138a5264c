// Forward: out[b, q, h, :] = sum over samples of weight * bilinear value[b, :, h, :].
//
// TILE: one head's value of one image is copied into shared memory and a block takes many queries of it: few pixels
// and many queries (the extractor), where each value is read hundreds of times. Otherwise values come from global
// memory: many pixels, few queries (the injector).

template <bool TILE>
__device__ __forceinline__ void forward(const Value* __restrict__ value, const Sum* __restrict__ locations,
                                        const Sum* __restrict__ weights, Value* __restrict__ out, const Levels& levels,
                                        i64 batch, int heads, i64 queries, int points, i64 tile_queries) {
    SHARED_MEMORY(memory);
    unsigned char* cursor = memory;
    const int pixels = levels.start[levels.count], samples = levels.count * points;
    const int warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    const int lane = threadIdx.x % LANES, group = threadIdx.x % WARP / LANES;
    Stage stage;
    stage.pixels = carve<Pixels>(cursor, warps * PLACES) + warp * PLACES + group * (LANES + 1);
    stage.factors = carve<Factors>(cursor, warps * PLACES) + warp * PLACES + group * (LANES + 1);
    Value* tile = TILE ? carve<Value>(cursor, pixels * PITCH) : nullptr;
    const Share mine = share(samples, lane);
    const i64 stride = static_cast<i64>(heads) * CHANNELS;
    const i64 blocks = (queries + tile_queries - 1) / tile_queries * heads * batch * SLABS;

    for (i64 index = blockIdx.x; index < blocks; index += gridDim.x) {
        const int first = static_cast<int>(index % SLABS) * PITCH;
        const Work work = work_of(index / SLABS, heads, queries, tile_queries);
        const Value* source = value + work.image * pixels * stride + static_cast<i64>(work.head) * CHANNELS + first;
        if (TILE) {
            __syncthreads();  // the previous tile is no longer read
            copy_tile<PITCH / VECTOR>(tile, source, pixels, stride, CHANNELS - first);
            __syncthreads();
        }
        // the loops below turn equally often for all lanes of a warp, as __syncwarp needs
        const int step = GROUPS * mine.queries;
        for (i64 query = work.begin + warp * step; query < work.end; query += warps * step) {
            const i64 own = query + group * mine.queries;
            Sum sums[ITEMS][VECTOR];
            for (int base = 0; base < samples; base += mine.samples) {
                const int sample = base + mine.sample;
                if (mine.query < mine.queries && own + mine.query < work.end && sample < samples) {
                    const i64 row = (work.image * queries + own + mine.query) * heads + work.head;
                    const i64 at = row * samples + sample;
                    const Sample place = locate(levels, sample / points, locations[2 * at], locations[2 * at + 1]);
                    const Sum weight = weights[at];
                    Pixels where;
                    Factors factors;
#pragma unroll
                    for (int c = 0; c < 4; ++c) {
                        where.at[c] = place.held ? place.pixel[c] : -1;
                        factors.of[c] = weight * corner(place, c);
                    }
                    stage.pixels[lane] = where;
                    stage.factors[lane] = factors;
                }
                __syncwarp();
                const int count = samples - base < mine.samples ? samples - base : mine.samples;
                for (int turn = 0; turn < mine.queries && own + turn < work.end; ++turn) {
                    if (base == 0) {
#pragma unroll
                        for (int i = 0; i < ITEMS; ++i)
#pragma unroll
                            for (int v = 0; v < VECTOR; ++v) sums[i][v] = 0;
                    }
#pragma unroll 2
                    for (int s = turn * mine.samples; s < turn * mine.samples + count; ++s) {
                        const Pixels where = stage.pixels[s];
                        if (where.at[0] < 0) continue;
                        const Factors factors = stage.factors[s];
#pragma unroll
                        for (int c = 0; c < 4; ++c) {
                            const Value* from = TILE ? tile + where.at[c] * PITCH : source + where.at[c] * stride;
#pragma unroll
                            for (int i = 0; i < ITEMS; ++i) {
                                const int channel = (i * LANES + lane) * VECTOR;
                                if (channel >= CHANNELS - first) continue;
                                Sum numbers[VECTOR];
                                load(from + channel, numbers);
#pragma unroll
                                for (int v = 0; v < VECTOR; ++v) sums[i][v] += factors.of[c] * numbers[v];
                            }
                        }
                    }
                    if (base + mine.samples < samples) continue;
                    Value* to = out + (work.image * queries + own + turn) * stride;
                    to += static_cast<i64>(work.head) * CHANNELS + first;
#pragma unroll
                    for (int i = 0; i < ITEMS; ++i) {
                        const int channel = (i * LANES + lane) * VECTOR;
                        if (channel < CHANNELS - first) store(to + channel, sums[i]);
                    }
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

extern "C" __global__ void __launch_bounds__(256, ITEMS > 1 ? 2 : 3) forward_tile(ARGUMENTS) {
    forward<true>(value, locations, weights, out, levels, batch, heads, queries, points, tile_queries);
}

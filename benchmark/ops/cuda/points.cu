// Backward, first half: gradients of sampling locations and attention weights. For each sample the dot products of
// grad_output with its four neighbours say all (store_gradient). values.cu computes these too where it can.
//
// TILE as in forward.cu. SCATTER also adds weight * corner weight * grad_output to grad_value by atomics, whose order
// is open; values.cu and gather.cu are the ways without.

template <bool TILE, bool SCATTER>
__device__ __forceinline__ void points_gradient(
    const Value* __restrict__ grad_output, const Value* __restrict__ value, const Sum* __restrict__ locations,
    const Sum* __restrict__ weights, Sum* __restrict__ grad_value, Sum* __restrict__ grad_locations,
    Sum* __restrict__ grad_weights, const Levels& levels, i64 batch, int heads, i64 queries, int points,
    i64 tile_queries) {
    SHARED_MEMORY(memory);
    unsigned char* cursor = memory;
    const int pixels = levels.start[levels.count], samples = levels.count * points;
    const int warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    const int lane = threadIdx.x % LANES, group = threadIdx.x % WARP / LANES;
    Pixels* staged_pixels = carve<Pixels>(cursor, warps * PLACES) + warp * PLACES + group * (LANES + 1);
    Factors* staged = carve<Factors>(cursor, warps * PLACES) + warp * PLACES + group * (LANES + 1);  // then the dots
    Value* tile = TILE ? carve<Value>(cursor, pixels * CHANNELS) : nullptr;
    const Share mine = share(samples, lane);
    const i64 stride = static_cast<i64>(heads) * CHANNELS;
    const i64 blocks = (queries + tile_queries - 1) / tile_queries * heads * batch;
    constexpr bool KEEP = SLABS == 1;  // grad_output's row stays in registers

    for (i64 index = blockIdx.x; index < blocks; index += gridDim.x) {
        const Work work = work_of(index, heads, queries, tile_queries);
        const i64 offset = work.image * pixels * stride + static_cast<i64>(work.head) * CHANNELS;
        const Value* source = value + offset;
        if (TILE) {
            __syncthreads();  // the previous tile is no longer read
            copy_tile<ROW>(tile, source, pixels, stride, CHANNELS);
            __syncthreads();
        }
        const int step = GROUPS * mine.queries;
        for (i64 query = work.begin + warp * step; query < work.end; query += warps * step) {
            const i64 own = query + group * mine.queries;
            for (int base = 0; base < samples; base += mine.samples) {
                const int sample = base + mine.sample;
                const bool staging =
                    mine.query < mine.queries && own + mine.query < work.end && sample < samples;
                const i64 row = (work.image * queries + own + mine.query) * heads + work.head;
                const i64 at = row * samples + sample;
                Sample place;
                place.held = 0;
                Sum weight = 0;
                // lanes without a sample stage one of weight 0 at pixel 0: all lanes of the warp go through the
                // same shuffles below, and nobody looks at what comes out for it
                Pixels where = {{0, 0, 0, 0}};
                Factors factors = {{0, 0, 0, 0}};
                if (staging) {
                    place = locate(levels, sample / points, locations[2 * at], locations[2 * at + 1]);
                    weight = weights[at];
#pragma unroll
                    for (int c = 0; c < 4; ++c) {
                        where.at[c] = place.pixel[c];
                        factors.of[c] = weight * corner(place, c);
                    }
                }
                staged_pixels[lane] = where;
                staged[lane] = factors;
                __syncwarp();
                for (int turn = 0; turn < mine.queries; ++turn) {
                    const bool present = own + turn < work.end;
                    const i64 here = present ? own + turn : work.begin;
                    const Value* gradient =
                        grad_output + (work.image * queries + here) * stride + static_cast<i64>(work.head) * CHANNELS;
                    Sum kept[ITEMS][VECTOR];
                    if (KEEP) {
#pragma unroll
                        for (int i = 0; i < ITEMS; ++i) {
                            const int channel = (i * LANES + lane) * VECTOR;
                            if (channel < CHANNELS) {
                                load(gradient + channel, kept[i]);
                            } else {
#pragma unroll
                                for (int v = 0; v < VECTOR; ++v) kept[i][v] = 0;
                            }
                        }
                    }
                    for (int s = turn * mine.samples; s < (turn + 1) * mine.samples; ++s) {
                        const Pixels at_pixel = staged_pixels[s];
                        const Factors factor = staged[s];
                        Sum part[4] = {0, 0, 0, 0};
#pragma unroll(KEEP ? ITEMS : 1)
                        for (int i = 0; i < ALL_ITEMS; ++i) {
                            const int channel = (i * LANES + lane) * VECTOR;
                            if (channel >= CHANNELS) continue;
                            if (!KEEP) load(gradient + channel, kept[0]);
                            const Sum(&numbers)[VECTOR] = kept[KEEP ? i : 0];
#pragma unroll
                            for (int c = 0; c < 4; ++c) {
                                const Value* from = TILE ? tile + at_pixel.at[c] * CHANNELS
                                                         : source + at_pixel.at[c] * stride;
                                Sum neighbour[VECTOR];
                                load(from + channel, neighbour);
#pragma unroll
                                for (int v = 0; v < VECTOR; ++v) part[c] += numbers[v] * neighbour[v];
                                if (SCATTER && present && factor.of[c] != 0)
                                    scatter(grad_value + offset + at_pixel.at[c] * stride + channel, factor.of[c],
                                            numbers);
                            }
                        }
                        __syncwarp();  // all lanes of the group have read the factors that the dots replace
                        reduce_four(part, lane, staged[s].of, 1, 4);
                    }
                }
                __syncwarp();  // from here on each lane looks at its own place only
                if (staging) {
                    const Factors found = staged[lane];
                    store_gradient(levels, sample / points, place, weight, found.of, grad_weights + at,
                                   grad_locations + 2 * at);
                }
            }
        }
    }
}

// `resident`: blocks per multiprocessor that the compiler plans registers for, as many as it can without spilling
#define POINTS_KERNEL(name, tile, scatter, resident)                                                                \
    extern "C" __global__ void __launch_bounds__(256, resident)                                                     \
        name(const Value* __restrict__ grad_output, const Value* __restrict__ value,                                \
             const Sum* __restrict__ locations, const Sum* __restrict__ weights, Sum* __restrict__ grad_value,      \
             Sum* __restrict__ grad_locations, Sum* __restrict__ grad_weights,                                      \
             const __grid_constant__ Levels levels, i64 batch, int heads, i64 queries, int points,                  \
             i64 tile_queries) {                                                                                    \
        points_gradient<tile, scatter>(grad_output, value, locations, weights, grad_value, grad_locations,          \
                                       grad_weights, levels, batch, heads, queries, points, tile_queries);          \
    }

POINTS_KERNEL(points_global, false, false, ITEMS > 1 ? 2 : 3)
POINTS_KERNEL(points_global_scatter, false, true, 2)
POINTS_KERNEL(points_tile, true, false, ITEMS > 1 ? 2 : 3)

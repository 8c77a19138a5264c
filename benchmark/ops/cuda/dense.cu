// The whole sorted backward pass for few pixels in bfloat16 (the extractor), by matrix products instead of sorting.
//
// A block takes DENSE_QUERIES queries of one head at a time. Their corner factors make a small dense matrix, pixels x
// queries, mostly zeros; then grad_value += factors * grad_output, and grad_output * value^T holds the product of each
// query with each pixel, of which a sample's four give the gradients of its location and weight. Tensor cores do in
// zeros what sorting saves, and are faster still. Same bits every time: one lane adds to a factor after the other, and
// the sums of all pixels stay in registers until the last query.
//
// A factor is the sum of two bfloat16, 16 bits in all; values and gradients are bfloat16 already, and sums are float.
// A row of grad_output that holds infinity or NaN would spoil every pixel (0 * NaN): it is taken as zeros, and what it
// touches becomes NaN by its factors.

#if VALUE == 19 && VECTOR == 8 && CHANNELS % 16 == 0 && CHANNELS <= 64
#define DENSE
#endif

#define DENSE_THREADS 256
#define DENSE_SAMPLES 8  // most of a query: 4 or 8 lanes take it
#define DENSE_QUERIES (DENSE_THREADS / DENSE_SAMPLES)
#define DENSE_PIXELS 256                 // most: 32 of a warp
#define FACTOR_PITCH (DENSE_PIXELS + 8)  // rows that begin in different banks
#define PRODUCT_PITCH (DENSE_PIXELS + 8)
#define ROW_PITCH (CHANNELS + 8)

#ifdef DENSE

#ifndef EMULATED
// Four 8 x 8 matrices of 16-bit numbers; lane l has the address of row l % 8 of matrix l / 8, and gets two neighbours
// of row l / 4 of each.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const Value* row) {
#if __CUDA_ARCH__ >= 800
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
                 : "memory");
#endif
}

// The same, transposed: two neighbours of column lane / 4.
__device__ __forceinline__ void load_transposed(unsigned (&to)[4], const Value* row) {
#if __CUDA_ARCH__ >= 800
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
                 : "memory");
#endif
}

// sums (16 x 8) += a (16 x 16) * b (16 x 8), in the layout of PTX's mma.m16n8k16.
__device__ __forceinline__ void multiply(Sum (&sums)[4], const unsigned (&a)[4], unsigned low, unsigned high) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(low), "r"(high));
#endif
}
#endif

// Whether a bfloat16 among the 8 is infinite or NaN.
__device__ __forceinline__ bool strange(const Words& words) {
    bool any = false;
#pragma unroll
    for (int i = 0; i < 4; ++i)
        any |= (words.word[i] & 0x7f80u) == 0x7f80u || (words.word[i] & 0x7f800000u) == 0x7f800000u;
    return any;
}

// Adds to a factor, held as two bfloat16.
__device__ __forceinline__ void add_factor(Value* high, Value* low, Sum number) {
    const Sum sum = widen(*high) + widen(*low) + number;
    const Value rounded = narrow(sum);
    *high = rounded;
    *low = narrow(sum - widen(rounded));
}

// Of each sample, while the matrices are multiplied; in shared memory, registers being short.
struct Kept {
    Factors* factors;
    Sum* right;
    Sum* down;
    Sum* weight;
    unsigned* pixels;  // 8 bits each
    unsigned* state;   // corners held; bit 4: the row of grad_output is strange
};

constexpr int DENSE_WARPS = DENSE_THREADS / WARP;
constexpr int STEPS = CHANNELS / 16;  // of a product over channels
constexpr int STRIPS = 2;             // of 16 pixels, those of a warp: far apart, for a tile's samples lie together

// sums += factors * rows for this warp's pixels, products = rows * value^T.
__device__ __forceinline__ void multiply_all(Sum (&sums)[STRIPS][CHANNELS / 8][4],
                                             const unsigned (&values)[STRIPS][2][STEPS][2], const Value* high,
                                             const Value* low, const Value* rows, Sum* products,
                                             const unsigned* touched, int bits) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    // where ldmatrix wants this lane's row: quarters of 16 x 16, top left, bottom left, top right, bottom right
    const Value* row = rows + lane % 16 * ROW_PITCH + lane / 16 * 8;
    // and for the factors, which are stored query by query: top left, top right, bottom left, bottom right
    const int factor = (lane / 16 * 8 + lane % 8) * FACTOR_PITCH + lane / 8 % 2 * 8 + warp * 16;
    for (int q = 0; q < DENSE_QUERIES; q += 16) {
        unsigned strips = 0;  // that samples of these queries lie in
#pragma unroll
        for (int w = 0; w < DENSE_WARPS / 2; ++w) {  // a warp prepares 4 queries, or 8
            if (w < 16 >> (5 - bits)) strips |= touched[(q << bits) / WARP + w];
        }
        strips >>= warp;
        if ((strips & 0x101) == 0) continue;
        unsigned a[STRIPS][2][4] = {};
#pragma unroll
        for (int strip = 0; strip < STRIPS; ++strip) {
            if (!(strips >> 8 * strip & 1)) continue;
            const int at = q * FACTOR_PITCH + factor + strip * DENSE_PIXELS / 2;
            load_transposed(a[strip][0], high + at);
            load_transposed(a[strip][1], low + at);
        }
#pragma unroll
        for (int n = 0; n < CHANNELS / 8; n += 2) {
            unsigned b[4];
            load_transposed(b, row + q * ROW_PITCH + n * 8);
#pragma unroll
            for (int strip = 0; strip < STRIPS; ++strip) {
                if (!(strips >> 8 * strip & 1)) continue;
#pragma unroll
                for (int part = 0; part < 2; ++part) {
                    multiply(sums[strip][n], a[strip][part], b[0], b[1]);
                    multiply(sums[strip][n + 1], a[strip][part], b[2], b[3]);
                }
            }
        }
        Sum dots[STRIPS][2][4] = {};
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            unsigned gradient[4];
            load_matrices(gradient, row + q * ROW_PITCH + step * 16);
#pragma unroll
            for (int strip = 0; strip < STRIPS; ++strip) {
                if (!(strips >> 8 * strip & 1)) continue;
#pragma unroll
                for (int half = 0; half < 2; ++half)
                    multiply(dots[strip][half], gradient, values[strip][half][step][0], values[strip][half][step][1]);
            }
        }
#pragma unroll
        for (int strip = 0; strip < STRIPS; ++strip) {
            if (!(strips >> 8 * strip & 1)) continue;
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int pixel = strip * DENSE_PIXELS / 2 + warp * 16 + half * 8 + lane % 4 * 2;
                Sum* to = products + (q + lane / 4) * PRODUCT_PITCH + pixel;
                *reinterpret_cast<float2*>(to) = float2{dots[strip][half][0], dots[strip][half][1]};
                *reinterpret_cast<float2*>(to + 8 * PRODUCT_PITCH) = float2{dots[strip][half][2], dots[strip][half][3]};
            }
        }
    }
}

// What the lanes of a query look at.
struct Place {
    int own, part;  // query of the tile, sample of the query
    int level;
    int query, samples;  // of the image, of each query
    i64 row;             // (image, query, head)
};

// This lane's in the tile that starts at `begin`; `bits` of its number count the query's samples. Computed anew each
// time: registers are short. `row`: of the image's first query.
__device__ __forceinline__ Place place_of(int bits, int level, int begin, i64 row, int heads, int samples) {
    Place place;
    const int thread = forgotten(threadIdx.x);
    place.own = thread >> bits;
    place.part = thread & ((1 << bits) - 1);
    place.level = level;
    place.query = begin + place.own;
    place.samples = samples;
    place.row = row + static_cast<i64>(place.query) * heads;
    return place;
}

// Copies the query's row of grad_output to rows; true where it held infinity or NaN and became zeros.
template <int LANES_EACH>
__device__ __forceinline__ bool copy_row(Value* row, const Value* from, bool present, int part) {
    constexpr int TURNS = DENSE_SAMPLES / LANES_EACH;
    Words moved[TURNS];
    int bad = 0;
#pragma unroll
    for (int i = 0; i < TURNS; ++i) {
        const int channel = (i * LANES_EACH + part) * 8;
        moved[i] = {{0, 0, 0, 0}};
        if (present && channel < CHANNELS) moved[i] = *reinterpret_cast<const Words*>(from + channel);
        bad |= strange(moved[i]);
    }
#pragma unroll
    for (int offset = 1; offset < LANES_EACH; offset *= 2) bad |= __shfl_xor_sync(FULL, bad, offset);
#pragma unroll
    for (int i = 0; i < TURNS; ++i) {
        const int channel = (i * LANES_EACH + part) * 8;
        if (bad) moved[i] = {{0, 0, 0, 0}};
        if (channel < CHANNELS) *reinterpret_cast<Words*>(row + channel) = moved[i];
    }
    return bad;
}

// One tile's queries, before the products: rows of grad_output and factors to shared memory. By whole warps.
template <int LANES_EACH>
__device__ __forceinline__ void prepare(const Place& place, const Value* __restrict__ grad_output,
                                        const Sum* __restrict__ locations, const Sum* __restrict__ weights,
                                        const Levels& levels, int queries, Value* high, Value* low, Value* rows,
                                        unsigned* touched, const Kept& kept) {
    const int thread = threadIdx.x;
    const bool present = place.query < queries, counts = present && place.part < place.samples;
    Sum across = -1, along = -1, weight = 0;  // outside
    if (counts) {
        const i64 at = place.row * place.samples + place.part;
        across = locations[2 * at], along = locations[2 * at + 1], weight = weights[at];
    }
    const bool bad = copy_row<LANES_EACH>(rows + place.own * ROW_PITCH, grad_output + place.row * CHANNELS, present,
                                          place.part);
    const Sample sample = locate(levels, place.level, across, along);
    Factors factors;
    unsigned strips = 0, packed = 0;
#pragma unroll
    for (int c = 0; c < 4; ++c) {
        const bool held = sample.held >> c & 1;
        factors.of[c] = held && bad ? __uint_as_float(0x7fc00000u) : weight * corner(sample, c);
        if (!held) factors.of[c] = 0;
        if (held) strips |= 1u << sample.pixel[c] / 16;
        packed |= static_cast<unsigned>(sample.pixel[c] & 0xff) << 8 * c;
    }
    kept.factors[thread] = factors;
    kept.right[thread] = sample.right;
    kept.down[thread] = sample.down;
    kept.weight[thread] = weight;
    kept.pixels[thread] = packed;
    kept.state[thread] = sample.held | (bad ? 16u : 0u);
#pragma unroll
    for (int offset = 1; offset < WARP; offset *= 2) strips |= __shfl_xor_sync(FULL, strips, offset);
    if (thread % WARP == 0) touched[thread / WARP] = strips;
    __syncwarp();
    // sample after sample, for a query's may share pixels; its corners at once, for they do not
    const int first = thread - place.part, c = place.part % 4;
    for (int turn = 0; turn < place.samples; ++turn) {
        const Sum factor = place.part < 4 ? kept.factors[first + turn].of[c] : static_cast<Sum>(0);
        if (factor != 0) {  // else outside, or nothing to add
            const int to = place.own * FACTOR_PITCH + (kept.pixels[first + turn] >> 8 * c & 0xff);
            add_factor(high + to, low + to, factor);
        }
        __syncwarp();
    }
}

// After the products: gradients of the lane's sample, and its factors become zeros again.
__device__ __forceinline__ void finish(const Place& place, Sum* __restrict__ grad_locations,
                                       Sum* __restrict__ grad_weights, const Levels& levels, int queries, Value* high,
                                       Value* low, const Sum* products, const Kept& kept) {
    const int thread = threadIdx.x;
    const unsigned packed = kept.pixels[thread], state = kept.state[thread];
    Sample sample;
    sample.held = state & 15;
    sample.right = kept.right[thread];
    sample.down = kept.down[thread];
    Sum own[4] = {0, 0, 0, 0};
#pragma unroll
    for (int c = 0; c < 4; ++c) {
        if (!(state >> c & 1)) continue;
        own[c] = products[place.own * PRODUCT_PITCH + (packed >> 8 * c & 0xff)];
        if (state & 16) own[c] = __uint_as_float(0x7fc00000u);
    }
    if (place.query < queries && place.part < place.samples) {
        const i64 at = place.row * place.samples + place.part;
        store_gradient(levels, place.level, sample, kept.weight[thread], own, grad_weights + at,
                       grad_locations + 2 * at);
    }
    const int first = thread - place.part, c = place.part % 4;
    for (int turn = 0; turn < place.samples; ++turn) {  // as above
        if (place.part < 4 && kept.factors[first + turn].of[c] != 0) {
            const int to = place.own * FACTOR_PITCH + (kept.pixels[first + turn] >> 8 * c & 0xff);
            high[to] = low[to] = 0;
        }
        __syncwarp();
    }
}
#endif

extern "C" __global__ void __launch_bounds__(DENSE_THREADS, 2)
    values_dense(const Value* __restrict__ grad_output, const Value* __restrict__ value,
                 const Sum* __restrict__ locations, const Sum* __restrict__ weights, Value* __restrict__ grad_value,
                 Sum* __restrict__ partial, Sum* __restrict__ grad_locations, Sum* __restrict__ grad_weights,
                 const __grid_constant__ Levels levels, i64 batch, int heads, int queries, int points, int splits) {
#ifdef DENSE
    SHARED_MEMORY(memory);
    unsigned char* cursor = memory;
    Value* high = carve<Value>(cursor, DENSE_QUERIES * FACTOR_PITCH);
    Value* low = carve<Value>(cursor, DENSE_QUERIES * FACTOR_PITCH);
    Sum* products = carve<Sum>(cursor, DENSE_QUERIES * PRODUCT_PITCH);
    Value* rows = carve<Value>(cursor, DENSE_QUERIES * ROW_PITCH);
    unsigned* touched = carve<unsigned>(cursor, DENSE_WARPS);
    Kept kept;
    kept.factors = carve<Factors>(cursor, DENSE_THREADS);
    kept.right = carve<Sum>(cursor, DENSE_THREADS);
    kept.down = carve<Sum>(cursor, DENSE_THREADS);
    kept.weight = carve<Sum>(cursor, DENSE_THREADS);
    kept.pixels = carve<unsigned>(cursor, DENSE_THREADS);
    kept.state = carve<unsigned>(cursor, DENSE_THREADS);
    const int pixels = levels.start[levels.count], samples = levels.count * points;
    const int bits = samples > 4 ? 3 : 2, own_part = threadIdx.x & ((1 << bits) - 1);
    const int level = own_part < samples ? own_part / points : 0;
    const bool busy = threadIdx.x >> bits < DENSE_QUERIES;  // the same for a warp
    const i64 stride = static_cast<i64>(heads) * CHANNELS;
    for (int i = threadIdx.x; i < DENSE_QUERIES * FACTOR_PITCH; i += DENSE_THREADS) high[i] = low[i] = 0;
    for (int i = threadIdx.x; i < DENSE_WARPS; i += DENSE_THREADS) touched[i] = 0;  // of warps without queries
    __syncthreads();

    for (i64 index = blockIdx.x; index < batch * heads * splits; index += gridDim.x) {
        const int split = static_cast<int>(index % splits), head = static_cast<int>(index / splits % heads);
        const i64 image = index / splits / heads;
        const i64 row = image * queries * heads + head;
        unsigned values[STRIPS][2][STEPS][2];
        Sum sums[STRIPS][CHANNELS / 8][4];
        const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
#pragma unroll
        for (int strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int pixel = strip * DENSE_PIXELS / 2 + warp * 16 + half * 8 + lane / 4;
                const Value* from = value + (image * pixels + pixel) * stride + head * CHANNELS + lane % 4 * 2;
#pragma unroll
                for (int i = 0; i < 2 * STEPS; ++i)
                    values[strip][half][i / 2][i % 2] =
                        pixel < pixels ? *reinterpret_cast<const unsigned*>(from + i * 8) : 0;
            }
#pragma unroll
            for (int n = 0; n < CHANNELS / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) sums[strip][n][i] = 0;
        }

        for (int begin = split * DENSE_QUERIES; begin < queries; begin += splits * DENSE_QUERIES) {
            if (busy) {
                const Place place = place_of(bits, level, begin, row, heads, samples);
                if (bits == 2)
                    prepare<4>(place, grad_output, locations, weights, levels, queries, high, low, rows, touched, kept);
                else
                    prepare<8>(place, grad_output, locations, weights, levels, queries, high, low, rows, touched, kept);
            }
            __syncthreads();
            multiply_all(sums, values, high, low, rows, products, touched, bits);
            __syncthreads();
            if (busy) {
                const Place place = place_of(bits, level, begin, row, heads, samples);
                finish(place, grad_locations, grad_weights, levels, queries, high, low, products, kept);
            }
        }

        const int again = forgotten(threadIdx.x), column = again % 4 * 2;
#pragma unroll
        for (int i = 0; i < STRIPS * 2; ++i) {
            const int pixel = i / 2 * DENSE_PIXELS / 2 + again / WARP * 16 + i % 2 * 8 + again % WARP / 4;
            if (pixel >= pixels) continue;
            const i64 to = (image * pixels + pixel) * stride + head * CHANNELS + column;
#pragma unroll
            for (int n = 0; n < CHANNELS / 8; ++n) {
                const Sum first = sums[i / 2][n][i % 2 * 2], second = sums[i / 2][n][i % 2 * 2 + 1];
                if (splits == 1) {
                    grad_value[to + n * 8] = narrow(first);
                    grad_value[to + n * 8 + 1] = narrow(second);
                } else {
                    Sum* own = partial + split * batch * pixels * stride + to + n * 8;
                    *reinterpret_cast<float2*>(own) = float2{first, second};
                }
            }
        }
    }
#endif
}

// Numbers and memory. Every kernel file is compiled behind this one and samples.cu; nothing else is included, so that
// NVRTC needs no header folder.
//
// Given on the command line:
//   VALUE     64, 32, 16 or 19: double, float, half or bfloat16 as dtype of value, output and their gradients
//   CHANNELS  D, channels per head
//   VECTOR    elements per access: 16 bytes' worth where D and the pointers' alignment allow it, else 1
// Locations, attention weights and all sums are Sum: float, or double for double values.

typedef long long i64;

#if VALUE == 64
typedef double Value;
typedef double Sum;
#elif VALUE == 32
typedef float Value;
typedef float Sum;
#else
typedef unsigned short Value;  // the bits of a half or a bfloat16
typedef float Sum;
#endif

#define WARP 32
#define FULL 0xffffffffu

// 16 bytes in one access: 32-bit words, for the compiler splits an array of 16-bit ones into several
struct __align__(16) Words {
    unsigned word[4];
};

#ifndef EMULATED  // the tests run the same source on a CPU and bring these themselves
#define SHARED_MEMORY(name) extern __shared__ __align__(16) unsigned char name[]

// The next `count` elements of the block's dynamic shared memory; sizes are rounded up to 16 bytes.
template <typename T>
__device__ __forceinline__ T* carve(unsigned char*& cursor, int count) {
    T* part = reinterpret_cast<T*>(cursor);
    cursor += (static_cast<unsigned>(count) * sizeof(T) + 15) / 16 * 16;
    return part;
}

__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float number;
    asm("cvt.f32.f16 %0, %1;" : "=f"(number) : "h"(bits));
    return number;
}

__device__ __forceinline__ unsigned short float_to_half(float number) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(number));
    return bits;
}

// Two floats rounded to bfloat16, `low` in the lower half: one instruction from compute capability 8.0 on, NaN stays NaN.
#if VALUE == 19 && __CUDA_ARCH__ >= 800
#define ROUNDS_BFLOAT16
__device__ __forceinline__ unsigned floats_to_bfloat16s(float low, float high) {
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
#endif

// The same number, computed anew from here on instead of held in a register.
__device__ __forceinline__ int forgotten(int number) {
    asm volatile("" : "+r"(number));
    return number;
}

// The same address, held in registers from here on: the compiler would add up its parts anew at each use.
template <typename T>
__device__ __forceinline__ T* held(T* address) {
    asm volatile("" : "+l"(address));
    return address;
}

// From global memory that nobody writes during the kernel, in one access of up to 16 bytes.
template <typename T>
__device__ __forceinline__ T read_only(const T* from) {
    union {
        T whole;
        unsigned word[4];
    } pack;
    if constexpr (sizeof(T) == 16) {
        asm("ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4];"
            : "=r"(pack.word[0]), "=r"(pack.word[1]), "=r"(pack.word[2]), "=r"(pack.word[3])
            : "l"(from));
    } else if constexpr (sizeof(T) == 8) {
        asm("ld.global.nc.v2.b32 {%0, %1}, [%2];" : "=r"(pack.word[0]), "=r"(pack.word[1]) : "l"(from));
    } else {
        pack.whole = *from;
    }
    return pack.whole;
}

// One store: the compiler makes four of the same in C++.
__device__ __forceinline__ void store_global(void* to, const Words& words) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(words.word[0]), "r"(words.word[1]),
                 "r"(words.word[2]), "r"(words.word[3])
                 : "memory");
}

// Adds without returning the old value; four at once halve the atomic units' work from compute capability 9.0 on.
__device__ __forceinline__ void add_four(float* address, float a, float b, float c, float d) {
#if __CUDA_ARCH__ >= 900
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(address), "f"(a), "f"(b), "f"(c), "f"(d)
                 : "memory");
#else
    atomicAdd(address, a);
    atomicAdd(address + 1, b);
    atomicAdd(address + 2, c);
    atomicAdd(address + 3, d);
#endif
}
#endif

__device__ __forceinline__ Sum widen(Value value) {
#if VALUE == 16
    return half_to_float(value);
#elif VALUE == 19
    return __uint_as_float(static_cast<unsigned>(value) << 16);
#else
    return value;
#endif
}

__device__ __forceinline__ Value narrow(Sum sum) {
#if VALUE == 16
    return float_to_half(sum);
#elif defined(ROUNDS_BFLOAT16)
    return static_cast<Value>(floats_to_bfloat16s(sum, sum));
#elif VALUE == 19
    const unsigned bits = __float_as_uint(sum);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;  // NaN: rounding could carry it to infinity
    return static_cast<Value>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);  // to nearest, ties to even
#else
    return sum;
#endif
}

#if VALUE == 16 || VALUE == 19
// Two numbers rounded, the first in the lower half.
__device__ __forceinline__ unsigned narrow_two(Sum first, Sum second) {
#if defined EMULATED || __CUDA_ARCH__ < 800
    return narrow(first) | static_cast<unsigned>(narrow(second)) << 16;
#else
    unsigned pack;
#if VALUE == 16
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pack) : "f"(second), "f"(first));
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pack) : "f"(second), "f"(first));
#endif
    return pack;
#endif
}
#endif

__device__ __forceinline__ void load(const Value* from, Sum (&to)[VECTOR]) {
#if VECTOR == 1
    to[0] = widen(from[0]);
#elif VALUE == 64
    const double2 pack = *reinterpret_cast<const double2*>(from);
    to[0] = pack.x, to[1] = pack.y;
#elif VALUE == 32
    const float4 pack = *reinterpret_cast<const float4*>(from);
    to[0] = pack.x, to[1] = pack.y, to[2] = pack.z, to[3] = pack.w;
#else
    const Words pack = *reinterpret_cast<const Words*>(from);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        to[2 * i] = widen(static_cast<Value>(pack.word[i] & 0xffffu));
        to[2 * i + 1] = widen(static_cast<Value>(pack.word[i] >> 16));
    }
#endif
}

// VECTOR sums as they are, to global memory.
__device__ __forceinline__ void store_sums(Sum* to, const Sum (&from)[VECTOR]) {
#if VECTOR == 1
    to[0] = from[0];
#else
    constexpr int PER = 16 / sizeof(Sum);
#pragma unroll
    for (int i = 0; i < VECTOR; i += PER) {
        union {
            Sum sums[PER];
            Words words;
        } pack;
#pragma unroll
        for (int v = 0; v < PER; ++v) pack.sums[v] = from[i + v];
        store_global(to + i, pack.words);
    }
#endif
}

// VECTOR sums rounded to Value, to global memory.
__device__ __forceinline__ void store(Value* to, const Sum (&from)[VECTOR]) {
#if VECTOR == 1
    to[0] = narrow(from[0]);
#elif VALUE == 64 || VALUE == 32
    store_sums(to, from);
#else
    Words pack;
#pragma unroll
    for (int i = 0; i < 4; ++i) pack.word[i] = narrow_two(from[2 * i], from[2 * i + 1]);
    store_global(to, pack);
#endif
}

// VECTOR elements as they lie in memory.
#if VECTOR == 1
typedef Value Pack;
#else
typedef Words Pack;
#endif

// Copies VECTOR elements without looking at them.
__device__ __forceinline__ void copy(Value* to, const Value* from) {
#if VECTOR == 1
    to[0] = from[0];
#else
    *reinterpret_cast<Words*>(to) = *reinterpret_cast<const Words*>(from);
#endif
}

// Adds factor * values to VECTOR sums in global memory; the order among threads is open.
__device__ __forceinline__ void scatter(Sum* to, Sum factor, const Sum (&values)[VECTOR]) {
#if VECTOR >= 4
#pragma unroll
    for (int i = 0; i < VECTOR; i += 4)
        add_four(to + i, factor * values[i], factor * values[i + 1], factor * values[i + 2], factor * values[i + 3]);
#else
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) atomicAdd(to + i, factor * values[i]);
#endif
}

// How a row of CHANNELS is shared out: LANES neighbouring lanes of a warp (a group) take VECTOR channels each, ITEMS
// times over. The power of two with the fewest idle lanes wins; from 4 items a lane on only a whole warp will do.
constexpr int ROW = CHANNELS / VECTOR;
__device__ constexpr int choose_lanes() {
    int best = WARP, idle = (ROW + WARP - 1) / WARP * WARP - ROW;
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        const int items = (ROW + lanes - 1) / lanes;
        if (items <= 4 && items * lanes - ROW < idle) best = lanes, idle = items * lanes - ROW;
    }
    return best;
}
constexpr int LANES = choose_lanes();
constexpr int ALL_ITEMS = (ROW + LANES - 1) / LANES;
constexpr int ITEMS = ALL_ITEMS < 4 ? ALL_ITEMS : 4;                  // of one slab
constexpr int SLABS = (ALL_ITEMS + ITEMS - 1) / ITEMS;                // long rows are cut: sums stay in registers
constexpr int PITCH = SLABS == 1 ? CHANNELS : ITEMS * LANES * VECTOR;  // channels of one slab in shared memory
constexpr int GROUPS = WARP / LANES;                                  // of a warp

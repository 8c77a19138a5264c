// A CUDA block on one CPU thread, so that the kernels' own source can be tested where no GPU is.
//
// Every CUDA thread is a fiber that runs until it reaches a barrier, a shuffle or a match; then another runs, in an
// order drawn from a seed. Nothing goes in lockstep, so most missing barriers show as a wrong result under some order;
// not where a shuffle hides it, which waits for the whole warp here: races.h finds those too. Refused: barriers that
// not all threads of a block (warp) reach, different warp operations meeting, shared memory beyond what the launch
// asked for. Shared memory is one heap allocation per `carve`, filled with NaN bytes: under -fsanitize=address every
// access outside its part is caught.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#define EMULATED
#define __device__
#define __global__
#define __forceinline__ inline
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
#define __grid_constant__
#define SHARED_MEMORY(name) unsigned char* name = nullptr

struct double2 { alignas(16) double x; double y; };
struct float4 { alignas(16) float x; float y, z, w; };
using std::floor;
using std::fma;

namespace emulation {

enum Wait { READY, WARP_BARRIER, SHUFFLE, MATCH, BLOCK_BARRIER, FINISHED };
struct Index { unsigned x; };
struct Fiber {
    void* stack_pointer;
    Index index;
    Wait wait;
    int carved, phase;
    uint64_t block_epoch;  // counts on from block to block
    unsigned warp_epoch;   // barriers of the warp passed
};
struct Warp {
    int arrived;
    uint64_t slots[2][32];
};

inline Fiber* current;
inline Index block_index, block_size, grid_size;
inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline std::vector<std::pair<unsigned char*, size_t>> parts;  // of shared memory
inline size_t shared_limit, shared_used;
inline void *shared_first, *shared_end;  // all parts lie between them
inline void* scheduler;
inline char* stacks;
inline char message[256];
inline uint64_t blocks_run;
inline void (*body)(void*);
inline void* body_argument;
constexpr size_t STACK = 128 * 1024;
constexpr unsigned MOST_THREADS = 1024;

extern "C" void emulation_switch(void** save, void* load);
asm(R"(
.text
.globl emulation_switch
.hidden emulation_switch
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

inline void pause(Wait wait) {
    Fiber* self = current;
    self->wait = wait;
    emulation_switch(&self->stack_pointer, scheduler);
}

[[noreturn]] inline void fail(const char* text) {
    std::snprintf(message, sizeof message, "block %u, thread %u: %s", block_index.x, current->index.x, text);
    for (;;) pause(FINISHED);
}

inline void entry() {
    body(body_argument);
    for (;;) pause(FINISHED);
}

inline uint64_t random_state;
inline uint64_t draw() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

template <typename T>
void shuffle(std::vector<T>& order) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[draw() % i]);
}

// One block; seed 0: threads in order. Returns false with `message` set on misuse.
inline bool run_block(bool ordered) {
    const unsigned threads = block_size.x;
    parts.clear();
    ++blocks_run;
    shared_used = 0;
    for (unsigned t = 0; t < threads; ++t) {
        Fiber& fiber = fibers[t];
        fiber = {nullptr, {t}, READY, 0, 0, blocks_run << 32, 0};
        void** top = reinterpret_cast<void**>(stacks + (t + 1) * STACK);
        *--top = nullptr;  // keeps the stack aligned as after a call
        *--top = reinterpret_cast<void*>(&entry);
        top -= 6;  // registers
        fiber.stack_pointer = top;
    }
    for (Warp& warp : warps) warp.arrived = 0;
    std::vector<unsigned> runnable(threads);
    for (unsigned t = 0; t < threads; ++t) runnable[t] = threads - 1 - t;
    if (!ordered) shuffle(runnable);
    unsigned at_barrier = 0, finished = 0;
    while (!runnable.empty()) {
        // mostly who was released last: one warp runs far ahead of the others, as far as the barriers let it
        if (!ordered && draw() % 8 == 0) std::swap(runnable.back(), runnable[draw() % runnable.size()]);
        const unsigned t = runnable.back(), first = t / 32 * 32;
        runnable.pop_back();
        current = &fibers[t];
        current->wait = READY;
        emulation_switch(&scheduler, current->stack_pointer);
        if (message[0]) return false;
        if (current->wait == FINISHED) {
            ++finished;
        } else if (current->wait == BLOCK_BARRIER) {
            if (++at_barrier < threads) continue;
            at_barrier = 0;
            for (unsigned i = 0; i < threads; ++i) runnable.push_back(threads - 1 - i);
            if (!ordered) shuffle(runnable);
        } else if (++warps[t / 32].arrived == 32) {  // the whole warp is here
            warps[t / 32].arrived = 0;
            for (unsigned lane = first; lane < first + 32; ++lane) {
                if (fibers[lane].wait != current->wait) {
                    std::snprintf(message, sizeof message, "warp %u: lanes wait for different things", t / 32);
                    return false;
                }
            }
            for (unsigned lane = 0; lane < 32; ++lane) {
                runnable.push_back(first + 31 - lane);
                if (!ordered) std::swap(runnable.back(), runnable[runnable.size() - 1 - draw() % (lane + 1)]);
            }
        }
    }
    if (finished != threads) {
        std::snprintf(message, sizeof message, "block %u: %u of %u threads wait for ever", block_index.x,
                      threads - finished, threads);
        return false;
    }
    return true;
}

inline uint64_t* exchange(Wait kind, uint64_t bits) {
    Fiber* self = current;
    Warp& warp = warps[self->index.x / 32];
    const int phase = self->phase ^= 1;  // two sets: a fast lane's next value must not reach a slow one's reading
    warp.slots[phase][self->index.x % 32] = bits;
    pause(kind);
    return warp.slots[phase];
}

template <typename T>
T lane_value(const uint64_t* slots, unsigned lane) {
    T value;
    std::memcpy(&value, &slots[lane], sizeof value);
    return value;
}

template <typename T>
uint64_t bits_of(T value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}

template <typename... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
}

// As cuLaunchKernel, with blocks and threads in an order drawn from `seed` (0: in order). Null, or what went wrong.
template <typename... A>
const char* launch(void (*kernel)(A...), unsigned grid, unsigned threads, unsigned shared, void** arguments,
                   unsigned seed) {
    if (!stacks) stacks = static_cast<char*>(std::aligned_alloc(4096, STACK * MOST_THREADS));
    if (threads % 32 || threads > MOST_THREADS) return "threads is no multiple of 32 or above 1024";
    message[0] = 0;
    random_state = 0x9e3779b97f4a7c15u + seed;
    block_size = {threads}, grid_size = {grid};
    shared_limit = shared;
    fibers.resize(threads);
    warps.resize(threads / 32);
    auto bound = [&] { call(kernel, arguments, std::index_sequence_for<A...>()); };
    body = [](void* function) { (*static_cast<decltype(bound)*>(function))(); };
    body_argument = &bound;
    std::vector<unsigned> blocks(grid);
    for (unsigned b = 0; b < grid; ++b) blocks[b] = b;
    if (seed) shuffle(blocks);
    for (unsigned b : blocks) {
        block_index = {b};
        const bool fine = run_block(seed == 0);
        shared_first = shared_end = nullptr;  // the next owner of this memory is no kernel
        for (auto& part : parts) std::free(part.first);
        if (!fine) return message;
        if (shared_used != shared) return "the launch asks for more shared memory than the kernel uses";
    }
    return nullptr;
}

}  // namespace emulation

#ifdef RACES
#include "races.h"
#else
#define UNCHECKED
#endif

#define threadIdx (emulation::current->index)
#define blockIdx (emulation::block_index)
#define blockDim (emulation::block_size)
#define gridDim (emulation::grid_size)

inline void __syncthreads() {
    emulation::pause(emulation::BLOCK_BARRIER);
    ++emulation::current->block_epoch;
}
inline void __syncwarp() {
    emulation::pause(emulation::WARP_BARRIER);
    ++emulation::current->warp_epoch;
}

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    const unsigned lane = threadIdx.x % 32;
    return emulation::lane_value<T>(emulation::exchange(emulation::SHUFFLE, emulation::bits_of(value)), lane ^ mask);
}

template <typename T>
T __shfl_up_sync(unsigned, T value, unsigned delta) {
    const unsigned lane = threadIdx.x % 32;
    const uint64_t* slots = emulation::exchange(emulation::SHUFFLE, emulation::bits_of(value));
    return lane < delta ? value : emulation::lane_value<T>(slots, lane - delta);
}

inline unsigned __match_any_sync(unsigned, int value) {
    const uint64_t* slots = emulation::exchange(emulation::MATCH, emulation::bits_of(value));
    unsigned same = 0;
    for (unsigned lane = 0; lane < 32; ++lane) same |= (emulation::lane_value<int>(slots, lane) == value) << lane;
    return same;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline float __uint_as_float(unsigned bits) { float f; std::memcpy(&f, &bits, 4); return f; }
inline unsigned __float_as_uint(float f) { unsigned bits; std::memcpy(&bits, &f, 4); return bits; }
inline float half_to_float(unsigned short bits) { _Float16 h; std::memcpy(&h, &bits, 2); return h; }
inline unsigned short float_to_half(float f) {
    const _Float16 h = static_cast<_Float16>(f);
    unsigned short bits;
    std::memcpy(&bits, &h, 2);
    return bits;
}

inline int forgotten(int number) { return number; }
template <typename T>
T* held(T* address) { return address; }

template <typename T>
T read_only(const T* from) {
    if (reinterpret_cast<uintptr_t>(from) % sizeof(T)) emulation::fail("an address that is no multiple of the size");
    return *from;
}

template <typename Words>
void store_global(void* to, const Words& words) {
    if (reinterpret_cast<uintptr_t>(to) % 16) emulation::fail("16 bytes at an address that is no multiple of 16");
    std::memcpy(to, &words, 16);
}

template <typename T>
UNCHECKED T atomicAdd(T* address, T value) {
#ifdef RACES
    emulation::touch(address, sizeof value, emulation::ATOMIC);
#endif
    const T before = *address;
    *address = before + value;
    return before;
}
inline void add_four(float* address, float a, float b, float c, float d) {
    if (reinterpret_cast<uintptr_t>(address) % 16) emulation::fail("red.v4 at an address that is no multiple of 16");
    address[0] += a, address[1] += b, address[2] += c, address[3] += d;
}

template <typename T>
T* carve(unsigned char*&, int count) {
    using namespace emulation;
    const size_t size = static_cast<size_t>(count) * sizeof(T), index = current->carved++;
    if (index == parts.size()) {
        shared_used += (size + 15) / 16 * 16;
        if (shared_used > shared_limit) fail("more shared memory than the launch asks for");
        auto* part = static_cast<unsigned char*>(std::aligned_alloc(16, (size + 15) / 16 * 16));
        std::memset(part, 0xff, (size + 15) / 16 * 16);
        parts.emplace_back(part, size);
        if (index == 0 || part < shared_first) shared_first = part;
        if (part + size > shared_end) shared_end = part + size;
    }
    if (parts[index].second != size) fail("threads disagree about shared memory");
    return reinterpret_cast<T*>(parts[index].first);
}

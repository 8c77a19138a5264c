// Races in shared memory, found whatever order the threads happen to run in. The kernels are compiled with
// -fsanitize=thread, whose calls at each access end here instead of in its own library.
//
// Two accesses of a number, one of them a write, by different threads are a race unless a __syncthreads lies between
// them or, within a warp, a __syncwarp. Atomics race with reads and writes, not among themselves. Shuffles and matches order no memory, although the emulated ones (and today's
// hardware) wait for the whole warp.

#define UNCHECKED __attribute__((no_sanitize("thread"), noinline))

namespace emulation {

struct Access {
    uint64_t block_epoch;
    unsigned warp_epoch;
    int warp, lane;  // MANY: several
};
struct Cell {
    Access read, written, updated;  // updated: by an atomic
};
enum Kind { READ, WRITE, ATOMIC };
constexpr int MANY = -1;
constexpr size_t GRAIN = 2;  // bytes of the smallest type
inline std::vector<std::vector<Cell>> cells;  // of each part of shared memory
inline bool checking;                         // this header's own accesses are no matter

inline bool unordered(const Access& before, const Access& now) {
    if (before.block_epoch != now.block_epoch) return false;
    return before.warp != now.warp || (before.warp_epoch == now.warp_epoch && before.lane != now.lane);
}

// What is wrong with the access, or null.
inline const char* judge(const unsigned char* address, size_t size, Kind kind) {
    for (size_t p = 0; p < parts.size(); ++p) {
        if (address < parts[p].first || address >= parts[p].first + parts[p].second) continue;
        const size_t offset = address - parts[p].first;
        if (cells.size() <= p) cells.resize(p + 1);
        if (cells[p].size() * GRAIN < offset + size) cells[p].resize((parts[p].second + size) / GRAIN + 1);
        const int warp = static_cast<int>(current->index.x / 32), lane = static_cast<int>(current->index.x % 32);
        const Access now = {current->block_epoch, current->warp_epoch, warp, lane};
        for (size_t at = offset / GRAIN; at * GRAIN < offset + size; ++at) {
            Cell& cell = cells[p][at];
            if (kind != WRITE && cell.written.block_epoch >> 32 != now.block_epoch >> 32)
                return "read of shared memory that no thread of the block has written";
            if (kind != ATOMIC && unordered(cell.updated, now)) return "access to shared memory races with an atomic";
            if (kind == READ && unordered(cell.written, now)) return "read of shared memory races with a write";
            if (kind != READ && (unordered(cell.written, now) || unordered(cell.read, now)))
                return "write to shared memory races with another access";
            Access& kept = kind == WRITE ? cell.written : kind == READ ? cell.read : cell.updated;
            const bool also = kind != WRITE && kept.block_epoch == now.block_epoch;
            const bool warps = also && kept.warp != warp, lanes = also && kept.warp_epoch == now.warp_epoch;
            kept = {now.block_epoch, now.warp_epoch, warps ? MANY : warp, lanes && kept.lane != lane ? MANY : lane};
        }
    }
    return nullptr;
}

UNCHECKED inline void touch(void* address, size_t size, Kind kind) {
    if (checking || address < shared_first || address >= shared_end) return;
    checking = true;
    const char* fault = judge(static_cast<unsigned char*>(address), size, kind);
    checking = false;
    if (fault) fail(fault);
}

}  // namespace emulation

#define ACCESS(name, size) \
    extern "C" UNCHECKED void __tsan_read##name(void* address) { emulation::touch(address, size, emulation::READ); } \
    extern "C" UNCHECKED void __tsan_write##name(void* address) { emulation::touch(address, size, emulation::WRITE); }
ACCESS(1, 1)
ACCESS(2, 2)
ACCESS(4, 4)
ACCESS(8, 8)
ACCESS(16, 16)
extern "C" UNCHECKED void __tsan_read_range(void* address, size_t size) { emulation::touch(address, size, emulation::READ); }
extern "C" UNCHECKED void __tsan_write_range(void* address, size_t size) { emulation::touch(address, size, emulation::WRITE); }
extern "C" UNCHECKED void __tsan_func_entry(void*) {}
extern "C" UNCHECKED void __tsan_func_exit() {}
extern "C" UNCHECKED void __tsan_init() {}

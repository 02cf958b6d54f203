// Blocks, their threads, and where threads meet. A thread runs until it has to wait for others; which one goes on then
// is drawn at random, so a missing barrier shows as a wrong result. In every other launch one block runs as far ahead
// of the others as it can, which shows what only a barrier of its own would hide. Threads that wait for what never
// comes are named.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "fiber.h"

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace shim {

inline constexpr dim3 place(unsigned linear, dim3 size) {
  return {linear % size.x, linear / size.x % size.y, linear / (size.x * size.y)};
}
inline constexpr unsigned count(dim3 size) { return size.x * size.y * size.z; }

struct Random {
  uint64_t state = 1;
  uint32_t below(uint32_t n) {  // xorshift*, Vigna 2016
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return static_cast<uint32_t>((((state * 0x2545F4914F6CDD1Dull) >> 32) * n) >> 32);
  }
};
inline Random dice;

struct Block;

// A copy to shared memory that is under way: it lands at the wait, and until then nobody may rely on either end.
struct Copy {
  void* to;
  const void* from;  // null: zeros
  int bytes;
};

struct Thread {
  Fiber fiber;
  Block* block = nullptr;
  dim3 index;
  unsigned linear = 0;
  const char* waits_for = nullptr;
  int64_t votes = 0;                                 // of the last barrier
  std::vector<Copy> copies;                          // in order of issue
  std::vector<size_t> groups;                        // how many copies each closed group holds, oldest first
  size_t open_copies = 0;                            // of the group that is not closed
  unsigned cluster_arrived = 0, cluster_waited = 0;  // times that it called each half of the cluster's barrier
};

// Where a known number of threads wait for each other.
struct Barrier {
  std::vector<Thread*> waiting;
  int64_t votes = 0;
};

// Lanes of a warp at one collective: each leaves a pointer to its operands, the last one computes for all.
struct Meeting {
  uint32_t mask = 0, here = 0;
  const char* what = nullptr;
  void* operands[32] = {};
};

struct Warp {
  std::vector<Meeting> meetings;
};

// Shared memory of a block, of exactly the size asked for and full of NaN; gone, and seen to be gone, when the block
// ends.
class Shared {
 public:
  explicit Shared(size_t bytes) : bytes_(bytes) {
    if (posix_memalign(&memory_, 128, std::max<size_t>(bytes, 1))) fail("no memory for a block's shared memory");
    std::memset(memory_, 0xff, bytes);
  }
  Shared(Shared&& other) noexcept : bytes_(other.bytes_), memory_(std::exchange(other.memory_, nullptr)) {}
  ~Shared() {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(memory_, bytes_);  // what guards its arrays
#endif
    if (memory_) std::memset(memory_, 0xff, bytes_);
    free(memory_);
  }
  char* begin() const { return static_cast<char*>(memory_); }
  size_t bytes() const { return bytes_; }
  bool holds(const void* p) const { return p >= memory_ && p < begin() + std::max<size_t>(bytes_, 1); }

 private:
  size_t bytes_;
  void* memory_ = nullptr;
};

struct Kernel {
  std::function<void()> body;
  dim3 grid, block;
  size_t shared_bytes;
  unsigned together;  // blocks that are on the device at once: 1, those of a cluster, or all
  bool dependent;     // may start before the kernel before it has ended
};

struct Resident;

struct Block {
  Resident* resident;
  dim3 index;
  unsigned rank;   // within the resident blocks
  unsigned alive;  // threads that have not ended
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Barrier barriers[16];
  Shared dynamic;
  std::vector<std::pair<const void*, Shared>> fixed;  // arrays, by the address of a mark in the code that declares one

  Block(Resident* resident_, dim3 index_, unsigned rank_, unsigned threads_, size_t bytes)
      : resident(resident_),
        index(index_),
        rank(rank_),
        alive(threads_),
        threads(threads_),
        warps((threads_ + 31) / 32),
        dynamic(bytes) {}
  Shared& array(const void* mark, size_t bytes) {
    for (auto& [key, memory] : fixed) {
      if (key == mark) return memory;
    }
    return fixed.emplace_back(mark, Shared(bytes)).second;
  }
};

// The blocks that run at once.
struct Resident {
  const Kernel* kernel;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<Thread*> ready, dependent;  // can go on; wait for the kernel before to end
  unsigned alive = 0;
  bool dependency_open = false;
  Barrier everyone, cluster;  // grid_sync; cluster_wait
  unsigned cluster_here = 0;  // threads that called cluster_arrive since it opened last
  unsigned cluster_opened = 0;
  uint64_t idle = 0;       // turns in a row that only looked at a word
  bool ahead = false;      // one block runs ahead of the others,
  Block* first = nullptr;  // this one for now
};

inline Fiber home;
inline Resident* now = nullptr;
inline Thread* self = nullptr;

inline void entry();

// Goes on with some thread that can; home when there is none.
inline void go_on(Thread* from, bool last = false) {
  Fiber& before = from ? from->fiber : home;
  auto& ready = now->ready;
  if (ready.empty()) {
    self = nullptr;
    if (from) switch_fiber(before, home, last);
    return;
  }
  const uint32_t choice = static_cast<uint32_t>(ready.size());
  size_t at = dice.below(choice);
  for (int tries = 0; now->ahead && tries < 16 && ready[at]->block != now->first; ++tries) at = dice.below(choice);
  Thread* next = ready[at];
  now->first = next->block;
  ready[at] = ready.back();
  ready.pop_back();
  next->waits_for = nullptr;
  self = next;
  if (next != from) switch_fiber(before, next->fiber, last);
}

inline void wait_for(const char* what) {
  now->idle = 0;
  self->waits_for = what;
  go_on(self);
}

inline void open(Barrier& barrier) {
  for (Thread* thread : barrier.waiting) {
    thread->votes = barrier.votes;
    now->ready.push_back(thread);
  }
  barrier.waiting.clear();
  barrier.votes = 0;
}

inline void arrive(Barrier& barrier, size_t expected, const char* what, int64_t vote = 0) {
  Thread* const me = self;
  leave_mark(&barrier);
  barrier.votes += vote;
  barrier.waiting.push_back(me);
  if (barrier.waiting.size() >= expected) open(barrier);
  wait_for(what);
  see_mark(&barrier);
}

inline void open_if_complete(Barrier& barrier, size_t expected) {
  if (!barrier.waiting.empty() && barrier.waiting.size() >= expected) open(barrier);
}

inline void open_cluster_if_complete() {
  if (!now->cluster_here || now->cluster_here < now->alive) return;
  now->cluster_here = 0;
  ++now->cluster_opened;
  open(now->cluster);
}

// `all(operands)` sees those of every lane by its number, null for lanes that are not in the mask.
template <class Operands, class All>
void meet(uint32_t mask, const char* what, Operands& mine, All all) {
  Thread* const me = self;
  Warp& warp = me->block->warps[me->linear / 32];
  const uint32_t bit = 1u << me->linear % 32;
  if (!(mask & bit)) fail("a thread calls a warp collective whose mask leaves it out: ", what);
  auto meeting = std::find_if(warp.meetings.begin(), warp.meetings.end(), [&](Meeting& m) { return m.mask & mask; });
  if (meeting == warp.meetings.end()) {
    meeting = warp.meetings.insert(meeting, Meeting());
    meeting->mask = mask;
    meeting->what = what;
  }
  if (meeting->mask != mask || meeting->what != what || meeting->here & bit) {
    fail("lanes of a warp meet at different collectives: ",
         (std::string(meeting->what) + " and " + what + (meeting->mask != mask ? ", with different masks" : ""))
             .c_str());
  }
  leave_mark(&warp);
  meeting->operands[me->linear % 32] = &mine;
  meeting->here |= bit;
  if (meeting->here == mask) {
    see_mark(&warp);
    Operands* operands[32];
    for (int lane = 0; lane < 32; ++lane) operands[lane] = static_cast<Operands*>(meeting->operands[lane]);
    all(operands);
    leave_mark(&warp);
    Thread* lanes = &me->block->threads[me->linear / 32 * 32];
    for (int lane = 0; lane < 32; ++lane) {
      if (mask >> lane & 1) now->ready.push_back(lanes + lane);
    }
    warp.meetings.erase(meeting);
  }
  wait_for(what);
  see_mark(&warp);
}

// A look at a word that another thread may be about to change: the others get a turn first.
inline void look() {
  Thread* const me = self;
  if (++now->idle > 50'000'000) fail("threads wait for a word that nobody writes");
  now->ready.push_back(me);
  now->first = nullptr;
  go_on(me);
}

inline void entry() {
  arrived();
  see_mark(now);
  now->kernel->body();
  Thread* const me = self;
  Block& block = *me->block;
  if (!me->copies.empty()) fail("a thread ends with copies to shared memory that it never waited for");
  if (me->cluster_arrived != me->cluster_waited) fail("a thread ends after cluster_arrive, without cluster_wait");
  leave_mark(now);
  now->idle = 0;
  --now->alive;
  --block.alive;
  open_if_complete(block.barriers[0], block.alive);
  open_if_complete(now->everyone, now->alive);
  open_cluster_if_complete();
  go_on(me, true);
  fail("a thread that had ended went on");
}

// A kernel under way: started, finished, or with its first blocks waiting for the kernel before it.
class Launch {
 public:
  explicit Launch(Kernel kernel) : kernel_(std::move(kernel)) {
    const unsigned units = count(kernel_.grid) / kernel_.together;
    for (unsigned unit = 0; unit < units; ++unit) order_.push_back(unit);
    for (unsigned i = units; i > 1; --i) std::swap(order_[i - 1], order_[dice.below(i)]);
  }

  // Lets the first blocks run as far as they can without the kernel before.
  void start_early() {
    if (!order_.empty()) begin(), run();
  }

  void finish() {
    if (resident_) {
      resident_->dependency_open = true;
      for (Thread* thread : resident_->dependent) resident_->ready.push_back(thread);
      resident_->dependent.clear();
      run();
      end();
    }
    while (!order_.empty()) {
      begin();
      resident_->dependency_open = true;
      run();
      end();
    }
  }

 private:
  void begin() {
    const unsigned first = order_.back() * kernel_.together, threads = count(kernel_.block);
    order_.pop_back();
    resident_ = std::make_unique<Resident>();
    resident_->kernel = &kernel_;
    resident_->ahead = dice.below(2) == 1;
    for (unsigned rank = 0; rank < kernel_.together; ++rank) {
      const dim3 index = place(first + rank, kernel_.grid);
      resident_->blocks.push_back(std::make_unique<Block>(resident_.get(), index, rank, threads, kernel_.shared_bytes));
      Block& block = *resident_->blocks.back();
      for (unsigned i = 0; i < threads; ++i) {
        Thread& thread = block.threads[i];
        thread.block = &block;
        thread.linear = i;
        thread.index = place(i, kernel_.block);
        prepare(thread.fiber, entry);
        resident_->ready.push_back(&thread);
      }
    }
    resident_->alive = threads * kernel_.together;
    leave_mark(resident_.get());
  }

  void run() {
#if defined(__SANITIZE_THREAD__)
    home.tsan = __tsan_get_current_fiber();
#endif
    now = resident_.get();
    go_on(nullptr);
    see_mark(now);
    if (resident_->ready.empty() && resident_->alive > resident_->dependent.size() &&
        (resident_->dependent.empty() || resident_->dependency_open)) {
      report_deadlock();
    }
    now = nullptr;
  }

  void end() {
    for (auto& block : resident_->blocks) {
      for (Thread& thread : block->threads) release(thread.fiber);
    }
    resident_.reset();
  }

  [[noreturn]] void report_deadlock() const {
    std::string where;
    for (auto& block : resident_->blocks) {
      for (Thread& thread : block->threads) {
        if (!thread.waits_for || where.size() > 300) continue;
        where += "\n  block " + std::to_string(block->rank) + " thread " + std::to_string(thread.linear) +
                 " waits at " + thread.waits_for;
      }
    }
    fail("deadlock, threads wait for others that never come:", where.c_str());
  }

  Kernel kernel_;
  std::vector<unsigned> order_;
  std::unique_ptr<Resident> resident_;
};

inline std::unique_ptr<Launch> pending;  // the newest kernel, which runs when something has to wait for it

inline void finish() {
  if (pending) pending->finish();
  pending.reset();
}

// NCAFAST_SHIM_LAUNCHES names a file that gets a byte for every launch.
inline void count_launch() {
  const char* name = std::getenv("NCAFAST_SHIM_LAUNCHES");
  if (!name) return;
  std::FILE* file = std::fopen(name, "a");
  if (!file) fail("no launches can be counted in ", name);
  std::fputc('.', file);
  std::fclose(file);
}

inline void submit(Kernel kernel) {
  count_launch();
  const bool early = kernel.dependent && pending;
  auto launch = std::make_unique<Launch>(std::move(kernel));
  if (early) launch->start_early();
  finish();
  pending = std::move(launch);
}

}  // namespace shim

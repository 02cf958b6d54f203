// See pool.h. Blocks come in sizes of at most an eighth more than was asked for, so that calls of about one size share
// them. A block of up to four times the size is lent too, since memory that is kept is there anyway.
#include "pool.h"

#include <list>
#include <mutex>
#include <new>
#include <unordered_map>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace ncafast::cpu {
namespace {

constexpr int64_t page = int64_t{1} << 21;  // a large one
constexpr std::align_val_t small_alignment{64}, large_alignment{page};

int64_t size_of(int64_t bytes) {
  int64_t step = page;
  while (16 * step <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

int64_t share_of_machine() {
#ifdef __linux__
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE) / 8;
#else
  return int64_t{1} << 30;
#endif
}

#ifdef __linux__
void advise(void* memory, int64_t bytes, int advice) { madvise(memory, bytes, advice); }
#else
enum { MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE };
void advise(void*, int64_t, int) {}
#endif

// Gives back the pages that lie here as a whole.
void forget(char* memory, int64_t bytes) {
  constexpr uintptr_t small_page = 4096;  // more elsewhere, where this does nothing then
  const int64_t before = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(memory) % small_page);
  if (before < bytes) advise(memory + before, bytes - before, MADV_DONTNEED);
}

class Pool {
 public:
  void* take(int64_t bytes) {
    const int64_t size = size_of(bytes);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto block = smallest(size);
      if (block != blocks_.end()) {
        void* memory = block->memory;
        kept_ -= block->size;
        lent_[memory] = block->size;
        // Nobody asked for the rest of a block that is too large.
        if (block->size > size) forget(static_cast<char*>(memory) + bytes, block->size - bytes);
        blocks_.erase(block);
        return memory;
      }
      release_outgrown(size);
    }
    void* memory = ::operator new(size, large_alignment, std::nothrow);
    if (!memory && release()) memory = ::operator new(size, large_alignment, std::nothrow);
    if (!memory) throw std::bad_alloc();
    advise(memory, bytes / page * page, MADV_HUGEPAGE);  // not past what was asked for, which would be there in full
    const std::lock_guard<std::mutex> lock(mutex_);
    lent_[memory] = size;
    return memory;
  }

  void give(void* memory) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto lent = lent_.find(memory);
    const int64_t size = lent->second;
    lent_.erase(lent);
    if (size > most_) return ::operator delete(memory, large_alignment);
    // From now on the system may take the pages; those that it left are as they were.
    advise(memory, size, MADV_FREE);
    blocks_.push_back({memory, size});
    kept_ += size;
    shrink(most_);
  }

  int64_t keep(int64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t before = most_;
    most_ = bytes;
    shrink(most_);
    return before;
  }

  int64_t kept() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return kept_;
  }

  int64_t release() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t before = kept_;
    shrink(0);
    return before;
  }

 private:
  struct Block {
    void* memory;
    int64_t size;
  };

  // The smallest block that is kept and large enough, of several the newest.
  std::list<Block>::iterator smallest(int64_t size) {
    auto found = blocks_.end();
    for (auto block = blocks_.begin(); block != blocks_.end(); ++block)
      if (block->size >= size && block->size <= 4 * size && (found == blocks_.end() || block->size <= found->size))
        found = block;
    return found;
  }

  // What grows step by step would otherwise leave a block of every size behind.
  void release_outgrown(int64_t size) {
    blocks_.remove_if([&](const Block& block) {
      if (block.size >= size || 2 * block.size < size) return false;
      ::operator delete(block.memory, large_alignment);
      kept_ -= block.size;
      return true;
    });
  }

  void shrink(int64_t most) {
    while (kept_ > most) {
      ::operator delete(blocks_.front().memory, large_alignment);
      kept_ -= blocks_.front().size;
      blocks_.pop_front();
    }
  }

  std::mutex mutex_;
  std::list<Block> blocks_;                  // the oldest first
  std::unordered_map<void*, int64_t> lent_;  // sizes
  int64_t kept_ = 0, most_ = share_of_machine();
};

Pool& pool() {
  static Pool* const only = new Pool;  // never destroyed: tensors may outlive all else
  return *only;
}

}  // namespace

void* take(int64_t bytes) { return bytes < least_kept ? ::operator new(bytes, small_alignment) : pool().take(bytes); }

void give(void* memory, int64_t bytes) {
  if (!memory) return;
  bytes < least_kept ? ::operator delete(memory, small_alignment) : pool().give(memory);
}

int64_t keep(int64_t bytes) { return pool().keep(bytes); }
int64_t kept() { return pool().kept(); }
int64_t release() { return pool().release(); }

}  // namespace ncafast::cpu

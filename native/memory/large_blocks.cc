#include "memory/large_blocks.h"

#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace alambic {

namespace {

// Sizes of blocks: eight steps per power of two, so that at most an eighth of a block is wasted, and that
// only as address space.
constexpr size_t steps = 8;
constexpr size_t doublings = 22;  // up to 256 GiB
constexpr size_t size_count = steps * doublings;

constexpr size_t block_size(size_t index) {
  return (smallest_large_block << (index / steps)) / steps * (steps + index % steps);
}

// The smallest block that holds so many bytes; `size_count` where there is none.
size_t index_of_size(size_t bytes) {
  size_t doubling = 0;
  while (doubling < doublings && (smallest_large_block << (doubling + 1)) <= bytes) doubling++;
  if (doubling == doublings) return size_count;
  size_t step = (smallest_large_block << doubling) / steps;
  return doubling * steps + (bytes - (smallest_large_block << doubling) + step - 1) / step;
}

// ---- Blocks from the system
// ------------------------------------------------------------------------------------------

constexpr size_t huge_page = size_t{2} << 20;

// Asks for huge pages inside of the block, where the system lends them on request: one fault instead of 512,
// and fewer addresses to look up.
void* in_huge_pages(void* block, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  auto begin = reinterpret_cast<uintptr_t>(block), end = begin + bytes;
  begin = (begin + huge_page - 1) / huge_page * huge_page;
  end = end / huge_page * huge_page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
  return block;
}

// Blocks of equal size lie one behind the other. An operator walks through several at once, and where they
// all begin at the same offset from a power of two, they are in each other's way in the caches.
size_t spacing(size_t bytes) {
  static std::atomic<size_t> turn{0};
  constexpr size_t page_and_line = 4096 + 64;
  return bytes < huge_page / 2 ? 0 : turn++ % 16 * page_and_line;
}

void* allocate(size_t bytes) {
  bytes += spacing(bytes);
  try {
    return in_huge_pages(c10::alloc_cpu(bytes), bytes);
  } catch (const c10::Error&) {
    if (idle_block_bytes() == 0) throw;
  }
  release_idle_blocks();
  return in_huge_pages(c10::alloc_cpu(bytes), bytes);
}

// ---- Idle blocks
// -----------------------------------------------------------------------------------------------------

class IdleBlocks {
 public:
  void* take(size_t index) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& list = lists_[index];
    if (list.empty()) return nullptr;
    auto* block = list.back().block;
    list.pop_back();
    bytes_ -= block_size(index);
    return block;
  }

  // A new block, whose size `put_bare` will be asked for.
  void add(size_t index, void* block) {
    std::lock_guard<std::mutex> lock(mutex_);
    index_of_[block] = index;
  }

  void put(size_t index, void* block) {
    if (block_size(index) > limit_) return free_all({block});  // would drive out all others
    std::vector<void*> surplus;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      lists_[index].push_back({block, ++clock_});
      bytes_ += block_size(index);
      surplus = take_surplus();
    }
    free_all(surplus);
  }

  // Any block of the CPU's memory.
  void put_bare(void* block) {
    size_t index = size_count;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (auto found = index_of_.find(block); found != index_of_.end()) index = found->second;
    }
    if (index == size_count) return c10::free_cpu(block);
    put(index, block);
  }

  void limit(size_t bytes) {
    std::vector<void*> surplus;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      limit_ = bytes;
      surplus = take_surplus();
    }
    free_all(surplus);
  }

  void release() {
    auto limit_before = limit_.load();
    limit(0);
    limit(limit_before);
  }

  size_t bytes() const { return bytes_; }
  size_t limit() const { return limit_; }

 private:
  struct Idle {
    void* block;
    uint64_t since;
  };

  // Off the lists what is beyond the limit, beginning with what has been idle longest.
  std::vector<void*> take_surplus() {
    std::vector<void*> surplus;
    while (bytes_ > limit_) {
      auto index = index_of_oldest();
      surplus.push_back(lists_[index].front().block);
      lists_[index].pop_front();
      bytes_ -= block_size(index);
    }
    return surplus;
  }

  // The front of each list is its oldest: blocks are taken from the back.
  size_t index_of_oldest() const {
    size_t oldest = size_count;
    for (size_t i = 0; i < size_count; i++)
      if (!lists_[i].empty() &&
          (oldest == size_count || lists_[i].front().since < lists_[oldest].front().since))
        oldest = i;
    return oldest;
  }

  void free_all(const std::vector<void*>& blocks) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (auto* block : blocks) index_of_.erase(block);
    }
    for (auto* block : blocks) c10::free_cpu(block);
  }

  std::mutex mutex_;
  std::array<std::deque<Idle>, size_count> lists_;
  std::unordered_map<void*, size_t> index_of_;  // of all blocks, idle or not
  uint64_t clock_ = 0;
  std::atomic<size_t> bytes_{0};
  std::atomic<size_t> limit_{0};
};

IdleBlocks& idle_blocks() {
  static auto* blocks = new IdleBlocks();  // never destroyed: tensors may be freed to the very end
  return *blocks;
}

// ---- A deleter per size, which thereby knows it
// ----------------------------------------------------------------------

template <size_t index>
void give_back(void* block) {
  idle_blocks().put(index, block);
}

template <size_t... indices>
constexpr std::array<c10::DeleterFnPtr, sizeof...(indices)> make_deleters(std::index_sequence<indices...>) {
  return {&give_back<indices>...};
}

constexpr auto deleters = make_deleters(std::make_index_sequence<size_count>());

}  // namespace

c10::DataPtr take_large_block(size_t bytes) {
  auto index = index_of_size(bytes);
  if (index == size_count) {
    auto* block = c10::alloc_cpu(bytes);
    return {block, block, &c10::free_cpu, c10::Device(c10::kCPU)};
  }
  auto* block = idle_blocks().take(index);
  if (block == nullptr) idle_blocks().add(index, block = allocate(block_size(index)));
  return {block, block, deleters[index], c10::Device(c10::kCPU)};
}

void give_back_block(void* block) { idle_blocks().put_bare(block); }

size_t idle_block_bytes() { return idle_blocks().bytes(); }
void limit_idle_blocks(size_t bytes) { idle_blocks().limit(bytes); }
size_t idle_block_limit() { return idle_blocks().limit(); }
void release_idle_blocks() { idle_blocks().release(); }

}  // namespace alambic

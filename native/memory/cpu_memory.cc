#include "memory/cpu_memory.h"

#include <c10/core/CPUAllocator.h>
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <mutex>

#include "errors.h"
#include "memory/large_blocks.h"
#include "memory/small_blocks.h"
#include "tensors/values.h"

namespace alambic {

namespace {

// Some members are const in some versions of libtorch, or not there: `override` would bind this to one of
// them.
class RecyclingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) { return take_block(bytes); }
  c10::DataPtr allocate(size_t bytes) const { return take_block(bytes); }
  c10::DeleterFnPtr raw_deleter() const { return &give_back_block; }
  void copy_data(void* to, const void* from, std::size_t count) const { std::memcpy(to, from, count); }

 private:
  static c10::DataPtr take_block(size_t bytes) {
    if (idle_block_limit() > 0) {
      if (bytes > 0 && bytes <= largest_small_block) return take_small_block(bytes);
      if (bytes >= smallest_large_block) return take_large_block(bytes);
    }
    return c10::GetDefaultCPUAllocator()->allocate(bytes);
  }
};

RecyclingAllocator* own_allocator() {
  static auto* allocator = new RecyclingAllocator();  // never destroyed: storages refer to it to the very end
  return allocator;
}

// libtorch takes CPU memory by our allocator from now on, unless somebody else gave it one. With the lowest
// priority: whoever sets one later replaces this. True where it is in force.
bool take_over_allocation() {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  if (c10::GetCPUAllocator() == c10::GetDefaultCPUAllocator()) c10::SetCPUAllocator(own_allocator());
  return c10::GetCPUAllocator() == own_allocator();
}

// Tools that look for misuse of memory see nothing of what is kept and used again: AddressSanitizer and its
// like, in this file or in the process, and valgrind.
bool is_memory_watched() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
  return true;
#endif
#endif
  for (const char* symbol : {"__asan_init", "__hwasan_init", "__msan_init", "__tsan_init", "__lsan_init",
                             "_vgnU_freeres"})  // valgrind preloads it into every process
    if (dlsym(RTLD_DEFAULT, symbol) != nullptr) return true;
  return false;
}

// What this process may use, in bytes: the machine's memory, or less in a container.
double usable_memory() {
  double usable = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    double limit = 0;
    if (std::ifstream(path) >> limit && limit > 0) usable = std::min(usable, limit);
  }
  return usable;
}

// An eighth of the memory, at most 4 GiB: the activations of a training step, not all the machine has.
size_t default_limit() {
  if (is_memory_watched()) return 0;
  constexpr double gibibyte = 1 << 30;
  return static_cast<size_t>(std::min(usable_memory() / 8, 4 * gibibyte));
}

// Keeps so many bytes at most; with 0 libtorch's own allocator remains, or does the work again.
void keep_idle_memory(size_t limit) {
  if (limit > 0 && !take_over_allocation()) return;
  limit_idle_blocks(limit);
}

// recycleCpuMemory(limit in bytes | undefined): the first call of the process decides
Napi::Value recycle_cpu_memory(const Napi::CallbackInfo& info) {
  auto limit = info[0].IsUndefined() ? default_limit() : static_cast<size_t>(to_integer(info[0], "limit"));
  static std::once_flag once;
  std::call_once(once, keep_idle_memory, limit);
  return info.Env().Undefined();
}

// (bytes)
Napi::Value limit_idle_memory(const Napi::CallbackInfo& info) {
  auto bytes = to_integer(info[0], "bytes");
  if (bytes < 0) fail("ERR_ARGUMENT", "limitIdleMemory: expected at least 0 bytes, got ", bytes);
  keep_idle_memory(static_cast<size_t>(bytes));
  return info.Env().Undefined();
}

Napi::Value release_idle_memory(const Napi::CallbackInfo& info) {
  release_idle_blocks();
  return info.Env().Undefined();
}

// cpuAllocator(): whose it is
Napi::Value cpu_allocator(const Napi::CallbackInfo& info) {
  const auto* current = c10::GetCPUAllocator();
  const auto* name = current == own_allocator()                 ? "alambic"
                     : current == c10::GetDefaultCPUAllocator() ? "libtorch"
                                                                : "other";
  return Napi::String::New(info.Env(), name);
}

}  // namespace

void export_cpu_memory(Napi::Env env, Napi::Object exports) {
  exports.Set("recycleCpuMemory", Napi::Function::New<guarded<recycle_cpu_memory>>(env));
  exports.Set("cpuAllocator", Napi::Function::New<guarded<cpu_allocator>>(env));
  exports.Set("limitIdleMemory", Napi::Function::New<guarded<limit_idle_memory>>(env));
  exports.Set("releaseIdleMemory", Napi::Function::New<guarded<release_idle_memory>>(env));
}

}  // namespace alambic

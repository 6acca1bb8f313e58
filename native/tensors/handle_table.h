// Tensors cross the boundary as numbers. This table owns what they stand for: one table per environment
// (thread).
#pragma once
#include <ATen/ATen.h>
#include <c10/util/flat_hash_map.h>

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

namespace alambic {

// A JavaScript number below 2^53: [generation : 24][environment : 8][slot : 21]. 0 stands for "no tensor".
using Handle = uint64_t;

class HandleTable {
 public:
  // Throws ERR_THREAD where as many environments have one as there are numbers.
  HandleTable();
  ~HandleTable();
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;

  // Throws ERR_OUT_OF_MEMORY where as many are alive as there are slots.
  Handle insert(at::Tensor tensor);

  // Throws ERR_TENSOR_RELEASED, or ERR_OTHER_THREAD for a handle of another environment.
  const at::Tensor& get(Handle handle) const {
    auto slot = handle & slot_mask;
    if (slot < slots_.size() && slots_[slot].handle == handle && handle != 0) return slots_[slot].tensor;
    refuse(handle);
  }

  // Another tensor stands behind the handle from now on, or the same with another storage.
  void replace(Handle handle, at::Tensor tensor);

  // False when the handle was released before: the finalizer of a disposed tensor comes late and means
  // nothing.
  bool release(Handle handle);

  // While a job in another thread works with a tensor its handle is refused (ERR_BUSY), and released only
  // afterwards. May be locked several times.
  void lock(Handle handle);
  void unlock(Handle handle);

  // Counts the storages of all tensors as they are now: operators in place (`set_`, `resize_`, `out`) change
  // them without the table. Takes a few nanoseconds per tensor. Storages of live tensors are alive
  // themselves, so that none is taken for one that is gone and had its address.
  void recount();

  size_t live() const { return live_; }
  // Bytes of all storages that a live handle refers to, each counted once; those on meta have none. Exact
  // after recount().
  size_t bytes() const { return bytes_; }
  size_t storages() const { return storages_.size(); }
  // How what the engine should know of (storages, and what each tensor costs besides) changed since the last
  // call.
  int64_t take_change() { return std::exchange(change_, 0); }
  int64_t change() const { return change_; }

 private:
  static constexpr int slot_bits = 21, environment_bits = 8;
  static constexpr uint64_t slot_mask = (uint64_t{1} << slot_bits) - 1;
  // A tensor's header, its slot, its JavaScript object: many small tensors are memory too.
  static constexpr int64_t tensor_overhead = 512;
  // Marks the handle of a locked tensor: it equals none that JavaScript has.
  static constexpr uint64_t busy = uint64_t{1} << 63;
  static constexpr uint32_t generation_limit = uint32_t{1} << 24;

  struct Slot {
    at::Tensor tensor;
    Handle handle = 0;        // of the tensor that lives here; 0 when free
    uint32_t generation = 0;  // of the next tensor that comes to live here; generation_limit: worn out
    uint32_t next_free = 0;
    const void* storage = nullptr;  // as counted, perhaps gone since: only ever compared
  };
  struct Storage {
    size_t handles, bytes;
  };

  [[noreturn]] void refuse(Handle handle) const;
  uint32_t take_slot();
  void count_storage(Slot& slot);
  void uncount_storage(Slot& slot);

  struct Lock {
    size_t count;
    bool is_released;  // meanwhile
  };

  uint32_t environment_;
  std::vector<Slot> slots_;  // slot 0 is never used
  uint32_t free_ = 0;
  size_t live_ = 0, bytes_ = 0;
  int64_t change_ = 0;
  std::unordered_map<Handle, Lock> locks_;
  ska::flat_hash_map<const void*, Storage> storages_;  // inserts and erases without allocating
};

}  // namespace alambic

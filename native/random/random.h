// Random numbers by thread. libtorch has one default generator of CPU tensors per process: two threads that
// draw from it disturb each other's numbers.
#pragma once
#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>

namespace alambic {

// The default generator of one JavaScript thread and of the threads that compute for it. The first thread has
// libtorch's own. Each other one has a generator for CPU tensors that takes its place: every operator that
// draws has a parameter for a generator, or calls one that has, and where no other was given this one is put
// there, on the way through the dispatcher, below autograd. Operators that draw nothing do not come by, and
// where there is one thread nothing does.
//
// What it cannot reach: GPUs, whose default generators all threads share; threads that `torch.jit.fork` of a
// TorchScript file starts, and its `torch.manual_seed`, which know libtorch's own only.
class Random {
 public:
  // That of the calling thread, which its environments share. Made, and released by the last of them, on that
  // thread.
  static std::shared_ptr<Random> of_this_thread();
  ~Random();
  Random(const Random&) = delete;
  Random& operator=(const Random&) = delete;

  // The default generator of a device.
  at::Generator generator(at::Device device) const;
  // All of them.
  void seed(uint64_t seed) const;

  // Makes the calling thread draw from it, while this lives.
  class Use {
   public:
    explicit Use(const Random& random);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
  };

 private:
  Random();

  bool has_libtorchs_ = false;
  at::Generator own_;  // undefined where it is libtorch's
};

}  // namespace alambic

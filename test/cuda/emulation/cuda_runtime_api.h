// As much of CUDA as the kernels use, on the CPU: the threads of a block are coroutines, which take turns
// wherever they wait for each other. Blocks run one after the other. Slow, and good for one thing: that the
// kernels compute what they should can be seen without a GPU.
#pragma once
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#define __global__
#define __device__
#define __shared__ static  // of all coroutines, and of one block at a time

using cudaStream_t = void*;

struct dim3 {
  unsigned int x, y, z;
  dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
};

inline dim3 gridDim, blockIdx, threadIdx;

using __half = c10::Half;
using __nv_bfloat16 = c10::BFloat16;
inline float __half2float(__half x) { return x; }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline __half __float2half_rn(float x) { return x; }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
using std::sqrt;

constexpr int threads = 256;

namespace emulation {

// Who waits is asked again and again until the last one has come.
struct Barrier {
  int expected, arrived = 0, generation = 0;
};

class Block {
 public:
  Block() : stacks_(threads), fibers_(threads) {
    for (auto& stack : stacks_) stack.reset(new char[stack_size]);
  }

  void run(const std::function<void()>& body) {
    body_ = &body;
    done_ = 0;
    all_ = {threads};
    warps_.assign(threads / 32, Barrier{32});
    for (int i = 0; i < threads; i++) {
      getcontext(&fibers_[i]);
      fibers_[i].uc_stack.ss_sp = stacks_[i].get();
      fibers_[i].uc_stack.ss_size = stack_size;
      fibers_[i].uc_link = &scheduler_;
      is_done_[i] = false;
      makecontext(&fibers_[i], reinterpret_cast<void (*)()>(enter), 0);
    }
    for (int turns = 0; done_ < threads; turns++) {
      if (turns > 1000000) throw std::runtime_error("threads wait for each other forever");
      for (current_ = 0; current_ < threads; current_++) {
        if (is_done_[current_]) continue;
        threadIdx = dim3(static_cast<unsigned int>(current_));
        swapcontext(&scheduler_, &fibers_[current_]);
      }
    }
  }

  void wait_for_all() { wait(all_); }

  template <typename T>
  T shuffle(T value, int mask) {
    int self = current_, peer = self - self % 32 + (self % 32 ^ mask);
    auto& slots = slots_of<T>();
    slots[self] = value;
    wait(warps_[self / 32]);
    T found = slots[peer];
    wait(warps_[self / 32]);
    return found;
  }

  static Block& current() {
    static Block one;
    return one;
  }

 private:
  static constexpr size_t stack_size = 1 << 16;

  template <typename T>
  static T (&slots_of())[threads] {
    static T slots[threads];
    return slots;
  }

  static void enter() {
    auto& block = current();
    (*block.body_)();
    block.is_done_[block.current_] = true;
    block.done_++;
  }

  void wait(Barrier& barrier) {
    int generation = barrier.generation;
    if (++barrier.arrived == barrier.expected) {
      barrier.arrived = 0;
      barrier.generation++;
      return;
    }
    while (barrier.generation == generation) {
      int self = current_;
      swapcontext(&fibers_[self], &scheduler_);
    }
  }

  const std::function<void()>* body_ = nullptr;
  std::vector<std::unique_ptr<char[]>> stacks_;
  std::vector<ucontext_t> fibers_;
  ucontext_t scheduler_;
  bool is_done_[threads];
  int current_ = 0, done_ = 0;
  Barrier all_{threads};
  std::vector<Barrier> warps_;
};

}  // namespace emulation

inline void __syncthreads() { emulation::Block::current().wait_for_all(); }

template <typename T>
T __shfl_xor_sync(unsigned int, T value, int mask) {
  return emulation::Block::current().shuffle(value, mask);
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, cudaStream_t, Arguments... arguments) {
  gridDim = grid;
  for (unsigned int z = 0; z < grid.z; z++)
    for (unsigned int y = 0; y < grid.y; y++)
      for (unsigned int x = 0; x < grid.x; x++) {
        blockIdx = dim3(x, y, z);
        emulation::Block::current().run([&] { kernel(static_cast<Parameters>(arguments)...); });
      }
}

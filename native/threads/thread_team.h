// The threads that OpenMP keeps for a thread that computed in parallel.
#pragma once

namespace alambic {

// Ends the calling thread's team; the next parallel operator starts another, which takes some 50 µs. While
// more threads are kept than the machine has processors, GNU OpenMP puts every team to sleep after each
// operator instead of letting it wait for the next: with a second team for work off the JavaScript thread,
// a step takes 1.4 times as long.
void release_thread_team();

// Ends the team at the end of a block.
struct TeamRelease {
  TeamRelease() = default;
  ~TeamRelease() { release_thread_team(); }
  TeamRelease(const TeamRelease&) = delete;
  TeamRelease& operator=(const TeamRelease&) = delete;
};

// In its block the calling thread's operators use no other thread. For small tensors: some kernels of
// libtorch, such as those of softmax and of the negative log-likelihood, share out even a hundred elements,
// and waking a thread for them takes longer than they do.
class Serial {
 public:
  explicit Serial(bool is_small);
  ~Serial();
  Serial(const Serial&) = delete;
  Serial& operator=(const Serial&) = delete;

 private:
  [[maybe_unused]] int threads_ = 0;  // of before, 0 where nothing was changed
};

}  // namespace alambic

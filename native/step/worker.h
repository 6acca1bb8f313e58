// A thread that does one job after the other.
#pragma once
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace alambic::step {

// libtorch's OpenMP keeps a team of threads for each thread that computes: training has one of its own, not
// whichever thread of a pool is free.
class Worker {
 public:
  Worker() : thread_([this] { work(); }) {}
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Waits for the job; throws what it throws.
  void run(std::function<void()> job);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> job_;
  std::exception_ptr error_;
  bool is_over_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace alambic::step

#include "step/worker.h"

#include <utility>

namespace alambic::step {

Worker::~Worker() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    is_over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Worker::run(std::function<void()> job) {
  std::unique_lock<std::mutex> lock(mutex_);
  job_ = std::move(job);
  changed_.notify_all();
  changed_.wait(lock, [this] { return !job_; });
  if (auto error = std::exchange(error_, nullptr)) std::rethrow_exception(error);
}

void Worker::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return is_over_ || job_; });
    if (is_over_) return;
    lock.unlock();
    std::exception_ptr error;
    try {
      job_();
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    error_ = error;
    job_ = nullptr;
    changed_.notify_all();
  }
}

}  // namespace alambic::step

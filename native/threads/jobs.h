// Work off the JavaScript thread. It has threads of its own: those of Node's pool are few, and files, DNS and
// crypto wait for them.
#pragma once
#include <napi.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "random/random.h"

namespace alambic {

// One piece of work. It is made, settled and destroyed on the JavaScript thread.
class Task {
 public:
  virtual ~Task() = default;
  // On another thread. What it fails with, settle() tells.
  virtual void run() noexcept = 0;
  // Where the environment ends before, it is destroyed without.
  virtual void settle(Napi::Env env) noexcept = 0;
};

class Jobs;
class Channel;  // jobs.cc

// Threads that take tasks in turn, in the order in which they came. Used on the JavaScript thread.
class Lane {
 public:
  // At most so many threads. Each is started when there is a task for it, and waits for the next ones.
  Lane(Jobs& jobs, size_t most_threads);
  // Ends the threads. To be destroyed when no task is left, or after Jobs::end().
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Throws ERR_THREAD where no thread can be started, or where the environment ends.
  void start(std::unique_ptr<Task> task);

 private:
  friend class Jobs;
  struct State;

  Jobs& jobs_;
  std::shared_ptr<State> state_;
};

// The tasks of one environment. They keep it alive, as timers do; threads without tasks do not.
//
// The end. Nothing of libtorch may run on while the environment is torn down, or while the process runs its
// static destructors: what runs is waited for, what has not begun is dropped. Node calls cleanup hooks when
// an environment ends, but not when the main thread exits by process.exit() or an uncaught error: so there is
// a listener for the process's 'exit' as well. A destructor of our own is for what passes both.
class Jobs {
 public:
  Jobs(napi_env env, std::shared_ptr<Random> random);
  ~Jobs();
  Jobs(const Jobs&) = delete;
  Jobs& operator=(const Jobs&) = delete;

  // Waits for the tasks that run, and forgets the others. Nothing can be started afterwards.
  void end();

 private:
  friend class Lane;
  friend class ProcessEnd;

  void open();
  void take_back(Napi::Env env);

  napi_env env_;
  std::shared_ptr<Random> random_;
  std::shared_ptr<Channel> channel_;
  std::vector<std::weak_ptr<Lane::State>> lanes_;
  size_t pending_ = 0;
  bool is_over_ = false;

 public:
  // For what has no lane of its own.
  Lane pool;
};

}  // namespace alambic

#include "threads/jobs.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <system_error>
#include <utility>

#include "errors.h"
#include "system/warnings.h"

namespace alambic {

using Tasks = std::deque<std::unique_ptr<Task>>;

// The way back. Threads may hold it longer than the environment lives.
class Channel {
 public:
  // On any thread.
  void give(std::unique_ptr<Task> task) {
    std::lock_guard<std::mutex> lock(mutex_);
    done_.push_back(std::move(task));
    // The queue has no limit; a function that is closing belongs to an environment that is ending.
    if (function_ != nullptr) napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
  }

  // On the JavaScript thread. The oldest, or null.
  std::unique_ptr<Task> take() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (done_.empty()) return nullptr;
    auto task = std::move(done_.front());
    done_.pop_front();
    return task;
  }

  void open(napi_threadsafe_function function) {
    std::lock_guard<std::mutex> lock(mutex_);
    function_ = function;
  }
  napi_threadsafe_function close() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(function_, nullptr);
  }
  // Only the JavaScript thread changes it.
  napi_threadsafe_function function() const { return function_; }

 private:
  std::mutex mutex_;
  Tasks done_;
  napi_threadsafe_function function_ = nullptr;
};

// ---- Lanes
// -----------------------------------------------------------------------------------------------------------

struct Lane::State {
  State(std::shared_ptr<Channel> back, std::shared_ptr<Random> random, size_t most_threads)
      : back(std::move(back)), random(std::move(random)), most_threads(most_threads) {}

  // Throws ERR_THREAD where there is no thread for it, and none can be started.
  static void add(const std::shared_ptr<State>& state, std::unique_ptr<Task> task);
  // Waits for what runs. Returns what has not begun.
  Tasks stop();

  const std::shared_ptr<Channel> back;
  const std::shared_ptr<Random> random;
  const size_t most_threads;

  std::mutex mutex;
  std::condition_variable changed;
  Tasks queue;
  size_t idle = 0;  // threads that wait
  bool is_over = false;
  std::vector<pthread_t> threads;  // of the JavaScript thread only

 private:
  static int spawn(const std::shared_ptr<State>& state);
  static void* run_thread(void* handed);
  void work();
};

void Lane::State::add(const std::shared_ptr<State>& state, std::unique_ptr<Task> task) {
  bool needs_thread;
  {
    std::lock_guard<std::mutex> lock(state->mutex);
    state->queue.push_back(std::move(task));
    needs_thread = state->queue.size() > state->idle;
  }
  state->changed.notify_one();
  if (!needs_thread || state->threads.size() == state->most_threads) return;
  auto error = spawn(state);
  if (error == 0 || !state->threads.empty()) return;  // one that is there takes it later
  {
    std::lock_guard<std::mutex> lock(state->mutex);
    task = std::move(state->queue.back());
    state->queue.pop_back();
  }
  fail("ERR_THREAD", "a thread could not be started: ", std::generic_category().message(error));
}

// As deep as Node's threads on every system: what reads a nested file needs the room.
int Lane::State::spawn(const std::shared_ptr<State>& state) {
  constexpr size_t stack_size = size_t{8} << 20;
  state->threads.reserve(state->most_threads);
  auto handed = std::make_unique<std::shared_ptr<State>>(state);
  pthread_t thread;
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0) return error;
  pthread_attr_setstacksize(&attributes, stack_size);
  error = pthread_create(&thread, &attributes, run_thread, handed.get());
  pthread_attr_destroy(&attributes);
  if (error != 0) return error;
  handed.release();  // the thread's
  state->threads.push_back(thread);
  return 0;
}

void* Lane::State::run_thread(void* handed) {
  std::unique_ptr<std::shared_ptr<State>> state(static_cast<std::shared_ptr<State>*>(handed));
  Random::Use use(*(*state)->random);
  listen_to_warnings_here();
  (*state)->work();
  return nullptr;
}

void Lane::State::work() {
  std::unique_lock<std::mutex> lock(mutex);
  while (true) {
    idle++;
    changed.wait(lock, [this] { return is_over || !queue.empty(); });
    idle--;
    if (is_over) return;
    auto task = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    task->run();
    back->give(std::move(task));
    lock.lock();
  }
}

Tasks Lane::State::stop() {
  Tasks dropped;
  {
    std::lock_guard<std::mutex> lock(mutex);
    is_over = true;
    dropped.swap(queue);
  }
  changed.notify_all();
  for (auto thread : std::exchange(threads, {})) pthread_join(thread, nullptr);
  return dropped;
}

Lane::Lane(Jobs& jobs, size_t most_threads)
    : jobs_(jobs), state_(std::make_shared<State>(jobs.channel_, jobs.random_, most_threads)) {
  auto& lanes = jobs.lanes_;
  lanes.erase(std::remove_if(lanes.begin(), lanes.end(), [](const auto& each) { return each.expired(); }),
              lanes.end());
  lanes.push_back(state_);
}

Lane::~Lane() { state_->stop(); }

void Lane::start(std::unique_ptr<Task> task) {
  jobs_.open();
  State::add(state_, std::move(task));
  if (jobs_.pending_++ == 0) napi_ref_threadsafe_function(jobs_.env_, jobs_.channel_->function());
}

// ---- The end
// -----------------------------------------------------------------------------------------------------------

// Where the process ends in a way that Node tells nobody of. exit() destroys what the thread that calls it
// has before anything static: what runs still has all of libtorch. Where another thread calls it,
// function-local objects of libtorch that were made after ours are gone by then: that is the last resort.
class ProcessEnd {
 public:
  ~ProcessEnd() {
    std::lock_guard<std::mutex> lock(mutex());
    for (auto* jobs : living()) stop(*jobs);
  }
  static void add(Jobs* jobs) {
    static ProcessEnd end;
    std::lock_guard<std::mutex> lock(mutex());
    living().insert(jobs);
    of_thread().jobs.insert(jobs);
  }
  static void remove(Jobs* jobs) {
    std::lock_guard<std::mutex> lock(mutex());
    if (living().erase(jobs) > 0) of_thread().jobs.erase(jobs);
  }

 private:
  // What JavaScript's thread has in an environment or, rarely, in several.
  struct OfThread {
    std::set<Jobs*> jobs;
    ~OfThread() {
      std::lock_guard<std::mutex> lock(mutex());
      for (auto* each : jobs) {
        stop(*each);
        living().erase(each);
      }
    }
  };
  static OfThread& of_thread() {
    thread_local OfThread of_thread;
    return of_thread;
  }

  static void stop(Jobs& jobs) {
    for (auto& weak : jobs.lanes_)
      if (auto lane = weak.lock())
        for (auto& task : lane->stop()) task.release();  // JavaScript's, which has ended
  }

  // Never destroyed.
  static std::mutex& mutex() {
    static auto& mutex = *new std::mutex;
    return mutex;
  }
  static std::set<Jobs*>& living() {
    static auto& living = *new std::set<Jobs*>;
    return living;
  }
};

namespace {

// process.once('exit', end)
void end_at_exit(Napi::Env env, Jobs& jobs) {
  auto process = env.Global().Get("process");
  if (!process.IsObject()) return;
  auto once = process.As<Napi::Object>().Get("once");
  if (!once.IsFunction()) return;
  auto end = Napi::Function::New(
      env, [](const Napi::CallbackInfo& info) { static_cast<Jobs*>(info.Data())->end(); }, "endJobs", &jobs);
  once.As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), end});
}

constexpr size_t pool_threads = 4;  // as many as Node's pool has

}  // namespace

Jobs::Jobs(napi_env env, std::shared_ptr<Random> random)
    : env_(env),
      random_(std::move(random)),
      channel_(std::make_shared<Channel>()),
      pool(*this, pool_threads) {}

Jobs::~Jobs() {
  end();
  ProcessEnd::remove(this);
}

// Nothing is taken from the process before the first task.
void Jobs::open() {
  if (is_over_) fail("ERR_THREAD", "nothing can be started any more: the thread ends");
  if (channel_->function() != nullptr) return;
  end_at_exit(env_, *this);
  auto take_back = [](napi_env env, napi_value, void* context, void*) {
    if (env != nullptr) static_cast<Jobs*>(context)->take_back(env);
  };
  napi_threadsafe_function function;
  auto status = napi_create_threadsafe_function(env_, nullptr, nullptr, Napi::String::New(env_, "alambic"),
                                                /*max_queue_size=*/0, /*initial_thread_count=*/1, nullptr,
                                                nullptr, this, take_back, &function);
  if (status != napi_ok) throw Napi::Error::New(env_);
  napi_unref_threadsafe_function(env_, function);
  channel_->open(function);
  // Hooks are called in the reverse of their order: this one before the function's own, which closes it.
  napi_add_env_cleanup_hook(env_, [](void* jobs) { static_cast<Jobs*>(jobs)->end(); }, this);
  ProcessEnd::add(this);
}

void Jobs::take_back(Napi::Env env) {
  auto task = channel_->take();
  if (!task) return;
  if (--pending_ == 0) napi_unref_threadsafe_function(env_, channel_->function());
  task->settle(env);
}

void Jobs::end() {
  if (std::exchange(is_over_, true)) return;
  Tasks dropped;
  auto* function = channel_->close();
  for (auto& weak : lanes_)
    if (auto lane = weak.lock())
      for (auto& task : lane->stop()) dropped.push_back(std::move(task));
  while (auto task = channel_->take()) dropped.push_back(std::move(task));
  dropped.clear();
  if (function != nullptr) napi_release_threadsafe_function(function, napi_tsfn_abort);
}

}  // namespace alambic

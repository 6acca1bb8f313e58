#include "spinning.h"

#include <dirent.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "errors.h"
#include "thread_team.h"

namespace alambic {

namespace {

// Waiting by spinning saves the 20 to 100 µs of waking a thread at every operator, and takes the processor
// from whoever else needs it: beside one other busy process on two processors a training step takes twice as
// long. GNU OpenMP cannot be told later how long to spin, but it never spins while it keeps more threads than
// there are processors. So this keeps that many while others compete, and gives them up when they no longer
// do.

// Of a thread so far, in nanoseconds.
struct Times {
  uint64_t ran, waited;  // on a processor, and for one
};

// By thread; empty where the kernel doesn't tell.
std::map<int, Times> times_of_threads() {
  std::map<int, Times> times;
  DIR* tasks = opendir("/proc/self/task");
  if (tasks == nullptr) return times;
  while (const dirent* entry = readdir(tasks)) {
    std::ifstream file(std::string("/proc/self/task/") + entry->d_name + "/schedstat");
    Times each;
    if (file >> each.ran >> each.waited) times[std::atoi(entry->d_name)] = each;
  }
  closedir(tasks);
  return times;
}

// How the process fared between two looks.
class Competition {
 public:
  void look() {
    auto now = times_of_threads();
    Times busiest{0, 0};
    for (const auto& [thread, times] : now) {
      auto before = last_.find(thread);
      if (before == last_.end()) continue;  // it may have an old thread's number
      Times since{times.ran - before->second.ran, times.waited - before->second.waited};
      if (since.ran + since.waited > busiest.ran + busiest.waited) busiest = since;
    }
    wanted_ = busiest.ran + busiest.waited;
    share_waited_ = wanted_ == 0 ? 0 : static_cast<double>(busiest.waited) / static_cast<double>(wanted_);
    last_ = std::move(now);
  }

  // How long the busiest thread wanted a processor.
  std::chrono::nanoseconds wanted() const { return std::chrono::nanoseconds(wanted_); }
  // How much of that it waited: some 0.05 on an idle machine, also while V8
  // collects garbage beside it; 0.4 and more next to one busy process on two processors.
  double share_waited() const { return share_waited_; }

 private:
  std::map<int, Times> last_;
  uint64_t wanted_ = 0;
  double share_waited_ = 0;
};

class Watch {
 public:
  Watch() : thread_([this] { watch(); }) {}
  ~Watch() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      is_over_ = true;
    }
    over_.notify_all();
    thread_.join();
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  static constexpr std::chrono::milliseconds shortest{50}, longest{1000};
  static constexpr double many = 0.25, few = 0.15;
  // A new team waits as well: the system starts its threads on one processor and moves them some milliseconds
  // later.
  static constexpr int looks_until_keeping = 2, looks_until_giving_up = 4;

  void watch() {
    Competition competition;
    competition.look();
    auto pause = shortest;
    int crowded = 0, calm = 0;
    while (!is_over_within(pause)) {
      competition.look();
      bool is_working = competition.wanted() > pause / 4;
      pause = is_working ? shortest : std::min(2 * pause, longest);
      if (!is_working) continue;
      crowded = competition.share_waited() > many ? crowded + 1 : 0;
      calm = competition.share_waited() < few ? calm + 1 : 0;
      if (crowded >= looks_until_keeping) keep_threads();
      if (calm >= looks_until_giving_up) give_up_threads();
    }
    give_up_threads();
  }

  bool is_over_within(std::chrono::milliseconds pause) {
    std::unique_lock<std::mutex> lock(mutex_);
    return over_.wait_for(lock, pause, [this] { return is_over_; });
  }

  void keep_threads() {
    if (is_keeping_) return;
    is_keeping_ = true;
    keep_large_thread_team();
  }

  void give_up_threads() {
    if (!is_keeping_) return;
    is_keeping_ = false;
    release_thread_team();
  }

  std::mutex mutex_;
  std::condition_variable over_;
  bool is_over_ = false;
  bool is_keeping_ = false;
  std::thread thread_;  // last: it uses the others
};

// One for the process, while any environment is there.
std::mutex watch_mutex;
int watchers = 0;
Watch* watch = nullptr;

void stop_watching() {
  std::lock_guard<std::mutex> lock(watch_mutex);
  if (--watchers > 0) return;
  delete watch;
  watch = nullptr;
}

// adaptSpinning(): while others compete for the processors, threads sleep at once.
Napi::Value adapt_spinning(const Napi::CallbackInfo& info) {
  std::lock_guard<std::mutex> lock(watch_mutex);
  if (watchers++ == 0) watch = new Watch();
  info.Env().AddCleanupHook(stop_watching);
  return info.Env().Undefined();
}

}  // namespace

void export_spinning(Napi::Env env, Napi::Object exports) {
  exports.Set("adaptSpinning", Napi::Function::New<guarded<adapt_spinning>>(env));
}

}  // namespace alambic

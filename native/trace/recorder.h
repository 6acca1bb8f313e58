// While libtorch's tracer listens: what bindings tell it that it cannot see for itself.
#pragma once
#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

namespace c10 {
struct Symbol;
}
namespace torch::jit {
struct Node;
}

namespace alambic::trace {

using Tensors = std::vector<at::Tensor>;
using Closure = std::function<Tensors(const Tensors&)>;

// What is made of the recorded operations.
enum class Purpose {
  File,    // a TorchScript file: only operators that every libtorch has
  Replay,  // a graph that this process runs again: closures too
};

// JavaScript has read something out of a tensor, which is a constant from now on.
enum class Read { Value, Shape };

// One recording, on this thread. Closures get their numbers here.
struct Recorder {
  Purpose purpose;
  // Called for tensors that depend on what is recorded; `what` names the function that reads, as JavaScript
  // knows it.
  std::function<void(Read, const char* what, const at::Tensor&)> on_read;
  std::vector<Closure> closures;
};

// Makes a recorder the one of this thread, while it lives.
class Listening {
 public:
  explicit Listening(Recorder& recorder);
  ~Listening();
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;
};

// Operators that run while this lives are not recorded: for tensors that are filled by other means, which a
// recording then holds as constants.
class Paused {
 public:
  Paused();
  ~Paused();
  Paused(const Paused&) = delete;
  Paused& operator=(const Paused&) = delete;

 private:
  std::function<void()> resume_;
  Recorder* recorder_;
};

// Is a recording going on in this thread?
bool is_recording();

// Tells the recorder, if there is one.
void note_read(Read read, const char* what, const at::Tensor& tensor);

// Runs `body`, which computes by other means than libtorch's operators, so that a recording holds it: as a
// step of its own where it is replayed; by its operators where it becomes a file. There `has_operators` says
// whether it has any: without, it is an error. `what` names it for the error.
Tensors record_closure(const char* what, Tensors inputs, const Closure& body, bool has_operators);

// The nodes of closures in a graph: (number, list of inputs) -> list of outputs.
c10::Symbol closure_symbol();
// Which of its inputs the closure changes in place.
const std::vector<int64_t>& written_by_closure(const torch::jit::Node& node);

// A recording that becomes a file must not use what is no operator.
bool needs_operators();

// Recorded as a step of its own where the recording is replayed.
void record_grad_mode(bool enabled);

// For functions that no recording can hold. Throws ERR_NOT_IMPLEMENTED while recording.
void refuse_while_recording(const char* what);

// The closures that `alambic::closure` nodes of a graph refer to, on this thread, while it lives.
class Closures {
 public:
  explicit Closures(const std::vector<Closure>& closures);
  ~Closures();
  Closures(const Closures&) = delete;
  Closures& operator=(const Closures&) = delete;
  // What a closure threw. The interpreter wraps it into an error without its class.
  std::exception_ptr error;

 private:
  Closures* outer_;

 public:
  const std::vector<Closure>& list;
};

}  // namespace alambic::trace

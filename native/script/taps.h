// Hooks inside a TorchScript method: a copy of its graph in which the values at given module paths pass
// through `alambic::tap`, an operator that shows them to whoever listens and hands on what it gets back.
#pragma once
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace alambic::script {

// One value to be shown.
struct Tap {
  std::string path;  // of the module, from the one whose method is called; "" is that one
  bool input = false;
  // Which argument of the module, for inputs: -1 takes the first tensor.
  int64_t argument = -1;
  // Into a tuple, list or dict, to a tensor: numbers and keys. For inputs: without the argument.
  std::vector<std::string> steps;
  // The value as it is, tensor or not.
  bool whole = false;
};

// Listens to the taps of what runs in this thread, until it goes out of scope.
class TapListener {
 public:
  // Gets the tap's number and the value, and returns the value that the graph goes on with.
  using OnValue = std::function<c10::IValue(int64_t tap, c10::IValue value)>;

  explicit TapListener(OnValue on_value);
  ~TapListener();
  TapListener(const TapListener&) = delete;
  TapListener& operator=(const TapListener&) = delete;

  static TapListener* current();
  c10::IValue show(int64_t tap, c10::IValue value) { return on_value_(tap, std::move(value)); }

 private:
  OnValue on_value_;
  TapListener* outer_;
};

// Puts the taps into the graph of `method`, number by number. `graph` belongs to `module`'s method and is
// changed.
//
// Throws ERR_UNKNOWN_LAYER for a path that the method doesn't call, saying why; ERR_ARGUMENT for a value that
// is no tensor, naming the tensors inside of it.
void insert_taps(torch::jit::Graph& graph, const torch::jit::Module& module, const std::string& method,
                 const std::vector<Tap>& taps);

// A method with taps, beside the module's own.
std::unique_ptr<torch::jit::GraphFunction> with_taps(const torch::jit::Module& module,
                                                     const std::string& method, const std::vector<Tap>& taps);

// A module that a method calls.
struct Call {
  std::string path;
  int64_t count = 0;                 // how often it is called in the code
  c10::TypePtr output;               // of its first call
  std::vector<c10::TypePtr> inputs;  // of its first call
};

// Every module that the method calls under a known path, in the order of the calls.
std::vector<Call> calls_of(const torch::jit::Module& module, const std::string& method);

// The tensors inside a value of the type, as steps in brackets: "[0]", "[1][0]", "[…]" for any key of a dict.
std::vector<std::string> tensors_in(const c10::TypePtr& type);

}  // namespace alambic::script

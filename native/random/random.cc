#include "random/random.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

namespace alambic {

namespace {

// Below autograd and the tracer, which have to see the call as it was made; above the kernels. Nothing else
// in a process without Python uses it.
constexpr auto key = c10::DispatchKey::Fake;

// What the calling thread draws from; null: from libtorch's generator.
thread_local const at::Generator* source = nullptr;

bool is_generator(const c10::Argument& argument) { return argument.type()->str() == "Generator?"; }

// Of an operator that draws: with the thread's generator where none was given, on the CPU.
void draw(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const auto& parameters = op.schema().arguments();
  auto* arguments = stack->data() + (stack->size() - parameters.size());
  bool is_on_cpu = std::all_of(arguments, arguments + parameters.size(), [](const at::IValue& each) {
    return !each.isTensor() || !each.toTensor().defined() || each.toTensor().device().is_cpu();
  });
  if (source != nullptr && is_on_cpu)
    for (size_t i = 0; i < parameters.size(); i++)
      if (arguments[i].isNone() && is_generator(parameters[i])) arguments[i] = *source;
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, key), stack);
}

// Those that make a tensor fill it by operators that have one.
bool draws(const c10::FunctionSchema& schema) {
  const auto& parameters = schema.arguments();
  return std::any_of(parameters.begin(), parameters.end(), is_generator) &&
         std::any_of(parameters.begin(), parameters.end(), [](const c10::Argument& each) {
           return each.type()->kind() == c10::TypeKind::TensorType;
         });
}

// Makes `draw` part of all operators that draw, for threads that include the key. As with any library of
// operators that is loaded late, others may compute meanwhile. Returns false where another copy of this
// package, or somebody else, has the key.
bool intercept_draws() {
  auto& dispatcher = c10::Dispatcher::singleton();
  if (dispatcher.hasBackendFallbackForDispatchKey(key)) return false;
  // Never destroyed: threads may draw while the process ends.
  auto* all = new torch::Library(torch::Library::IMPL, "_", key, __FILE__, __LINE__);
  all->fallback(torch::CppFunction::makeFallthrough());
  auto* aten = new torch::Library(torch::Library::IMPL, "aten", key, __FILE__, __LINE__);
  const std::string prefix = "aten::";
  for (const auto& name : dispatcher.getAllOpNames()) {
    if (name.name.compare(0, prefix.size(), prefix) != 0) continue;
    auto op = dispatcher.findSchema(name);
    if (!op || !draws(op->schema())) continue;
    auto full =
        name.name.substr(prefix.size()) + (name.overload_name.empty() ? "" : ".") + name.overload_name;
    aten->impl(full.c_str(), torch::CppFunction::makeFromBoxedFunction<&draw>());
  }
  return true;
}

bool can_intercept_draws() {
  static const bool can = intercept_draws();
  return can;
}

void draw_from(const at::Generator* generator) {
  source = generator;
  c10::impl::tls_set_dispatch_key_included(key, generator != nullptr);
}

std::mutex owner_mutex;
bool is_libtorchs_taken = false;

}  // namespace

std::shared_ptr<Random> Random::of_this_thread() {
  thread_local std::weak_ptr<Random> here;
  auto random = here.lock();
  if (!random) {
    random.reset(new Random);
    here = random;
  }
  return random;
}

Random::Random() {
  {
    std::lock_guard<std::mutex> lock(owner_mutex);
    has_libtorchs_ = !std::exchange(is_libtorchs_taken, true);
  }
  if (has_libtorchs_ || !can_intercept_draws()) return;
  own_ = at::detail::createCPUGenerator(c10::detail::getNonDeterministicRandom());
  draw_from(&own_);
}

Random::~Random() {
  if (own_.defined()) draw_from(nullptr);
  if (!has_libtorchs_) return;
  std::lock_guard<std::mutex> lock(owner_mutex);
  is_libtorchs_taken = false;
}

at::Generator Random::generator(at::Device device) const {
  return own_.defined() && device.is_cpu() ? own_ : at::globalContext().defaultGenerator(device);
}

void Random::seed(uint64_t seed) const {
  if (!own_.defined()) return at::manual_seed(seed);
  auto seed_one = [&](at::Generator generator) {
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
  };
  seed_one(own_);
  for (size_t i = 0; i < at::getNumGPUs(); i++)
    seed_one(generator(at::Device(at::kCUDA, static_cast<at::DeviceIndex>(i))));
}

Random::Use::Use(const Random& random) {
  if (random.own_.defined()) draw_from(&random.own_);
}

Random::Use::~Use() {
  if (source != nullptr) draw_from(nullptr);
}

}  // namespace alambic

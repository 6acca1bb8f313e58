#include "optim/trial.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <map>
#include <mutex>
#include <string_view>

namespace alambic::optim {

namespace {

constexpr int64_t sizes[] = {1,  2,  3,  4,  7,  8,   9,   15,  16,  17,   31,
                             32, 33, 63, 64, 65, 127, 129, 255, 257, 1031, 4099};
constexpr int rounds = 3;

int64_t total_size() {
  int64_t total = 0;
  for (auto size : sizes) total += size;
  return total;
}

at::Tensor make_numbers(const std::function<double(int64_t)>& at_index) {
  auto numbers = at::empty({total_size()}, at::kDouble);
  auto* data = numbers.data_ptr<double>();
  for (int64_t i = 0; i < numbers.numel(); i++) data[i] = at_index(i);
  return numbers;
}

// All numbers have four bits at most, which every dtype holds exactly.
at::Tensor make_parameter() {
  return make_numbers([](int64_t i) { return static_cast<double>((7 * i + 3) % 13 - 6) / 4; });
}

// None is near zero: an element that a kernel passes over is off by more than any rounding.
at::Tensor make_gradient(int round) {
  return make_numbers([round](int64_t i) {
    double sign = (3 * i + 7 * round) % 5 < 2 ? -1 : 1;
    return sign * (1 + static_cast<double>((5 * i + 3 * round) % 8) / 8);
  });
}

// One tensor per size, each in memory of its own; every second begins in the middle of a vector.
Tensors split(const at::Tensor& numbers, const at::Tensor& like) {
  auto converted = numbers.to(like.options().requires_grad(false));
  Tensors parts;
  int64_t start = 0;
  for (auto size : sizes) {
    auto offset = static_cast<int64_t>(parts.size() % 2);
    auto part = at::empty({size + offset}, converted.options()).narrow(0, offset, size);
    parts.push_back(part.copy_(converted.narrow(0, start, size)));
    start += size;
  }
  return parts;
}

Batch make_batch(std::vector<Trainable>& trainables, const Tensors& gradients) {
  Batch batch{{}, {}, gradients, /*is_plain=*/true};
  for (auto& trainable : trainables) {
    batch.trainables.push_back(&trainable);
    batch.parameters.push_back(trainable.parameter);
  }
  return batch;
}

std::vector<Trainable> make_trainables(const Tensors& parameters, size_t entries) {
  std::vector<Trainable> trainables;
  for (const auto& parameter : parameters) trainables.push_back({parameter, Tensors(entries)});
  return trainables;
}

// Rounding of a few operations, and of what a float32 count of steps makes of a power of beta.
double tolerance_of(at::ScalarType dtype) {
  if (dtype == at::kBFloat16) return 16.0 / 256;
  if (dtype == at::kHalf) return 16.0 / 2048;
  return dtype == at::kDouble ? 1e-12 : 1e-4;
}

bool is_near(const Tensors& parts, const at::Tensor& expected, double tolerance) {
  Tensors flat;
  for (const auto& part : parts) flat.push_back(part.reshape({-1}));
  auto values = at::cat(flat).to(at::TensorOptions(at::kCPU).dtype(at::kDouble));
  auto scale = expected.abs().max().clamp_min(1);
  return (values - expected).abs().le(scale * tolerance).all().item<bool>();  // no for NaN
}

// State that was never made is zero; a count of steps is one number for the whole tensor.
bool is_near(const std::vector<Trainable>& tried, const Trainable& expected, size_t entry, double tolerance) {
  const auto& number = expected.state[entry];
  Tensors parts;
  for (const auto& each : tried) {
    const auto& state = each.state[entry];
    auto part = state.defined() ? state : at::zeros({}, each.parameter.options());
    parts.push_back(part.expand_as(each.parameter).to(each.parameter.scalar_type()));
  }
  auto wanted = number.defined() ? number : at::zeros({}, expected.parameter.options());
  return is_near(parts, wanted.to(at::kDouble).expand_as(expected.parameter), tolerance);
}

bool agrees(const at::Tensor& like, const Trial& trial, size_t variant) {
  auto tried = make_trainables(split(make_parameter(), like), trial.entries);
  auto expected = make_trainables({make_parameter()}, trial.entries);
  for (int round = 0; round < rounds; round++) {
    auto gradient = make_gradient(round);
    auto by_kernel = make_batch(tried, split(gradient, like)), by_formula = make_batch(expected, {gradient});
    trial.tried(by_kernel, variant);
    trial.formula(by_formula, variant);
  }
  auto tolerance = tolerance_of(like.scalar_type());
  Tensors parameters;
  for (const auto& each : tried) parameters.push_back(each.parameter);
  if (!is_near(parameters, expected[0].parameter, tolerance)) return false;
  for (size_t entry = 0; entry < trial.entries; entry++)
    if (!is_near(tried, expected[0], entry, tolerance)) return false;
  return true;
}

}  // namespace

bool agrees(const at::Tensor& parameter, const Trial& trial) {
  at::NoGradGuard no_grad;
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  auto like = as_real(parameter.detach());
  for (size_t variant = 0; variant < trial.variants; variant++) try {
      if (!agrees(like, trial, variant)) return false;
    } catch (const c10::OutOfMemoryError&) {
      throw;
    } catch (const c10::Error&) {
      return false;  // there is no such kernel
    }
  return true;
}

DeviceDecision make_decision(double lr, const Batch& batch) {
  auto options = at::TensorOptions(batch.parameters.front().device()).dtype(at::kFloat);
  return {at::full({}, lr, options), at::zeros({}, options)};
}

void skip_next(DeviceDecision& decision) { decision.skip.fill_(1); }

bool is_right_once(const char* kernel, const at::Tensor& parameter, const std::function<bool()>& run) {
  using Key = std::tuple<std::string_view, c10::DeviceType, at::ScalarType>;
  static std::mutex mutex;
  static std::map<Key, bool> results;
  std::lock_guard<std::mutex> lock(mutex);
  Key key{kernel, parameter.device().type(), c10::toRealValueType(parameter.scalar_type())};
  auto found = results.find(key);
  if (found == results.end()) found = results.emplace(key, run()).first;
  return found->second;
}

}  // namespace alambic::optim

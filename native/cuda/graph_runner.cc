#include "cuda/graph_runner.h"

#include <ATen/core/grad_mode.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>

#include "compat.h"

namespace alambic::cuda {

namespace {

constexpr int warm_up_steps = 3;  // as PyTorch's notes on CUDA graphs advise
// Whoever moves tensors about at every step trains without graphs.
constexpr int64_t most_changes = 16;

// The first line of what libtorch or CUDA says.
std::string reason_of(const std::exception& error) {
  std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

at::Tensor buffer_like(const at::Tensor& tensor) {
  return at::empty_like(tensor, at::MemoryFormat::Preserve);
}

void fill(const Tensors& buffers, const Tensors& batch) {
  for (size_t i = 0; i < buffers.size(); i++) buffers[i].copy_(batch[i], /*non_blocking=*/true);
}

bool fits(const Tensors& buffers, const Tensors& batch) {
  if (buffers.size() != batch.size()) return false;
  for (size_t i = 0; i < batch.size(); i++)
    if (buffers[i].sizes() != batch[i].sizes() || buffers[i].scalar_type() != batch[i].scalar_type())
      return false;
  return true;
}

}  // namespace

GraphRunner::GraphRunner(c10::DeviceIndex device)
    : device_(device), side_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device)) {}

GraphRunner::~GraphRunner() {
  try {
    release();
  } catch (const std::exception& error) {
    TORCH_WARN("CUDA graphs were not released: ", reason_of(error));
  }
}

std::vector<double> GraphRunner::run(step::Step& step, const Tensors& batch) {
  if (!obstacle_.empty()) return step::run_plainly(step, batch);
  c10::cuda::CUDAGuard on_device(device_);
  at::NoGradGuard no_grad;  // the step switches it on where it wants it
  auto& captured = captured_[step.key()];
  if (captured.graph == nullptr || captured.assumptions != step.assumptions(batch)) {
    if (auto reason = step.obstacle(batch); !reason.empty()) {
      give_up(reason);
      return step::run_plainly(step, batch);
    }
    make_ready(captured, batch);
  }
  fill(captured.batch, batch);
  step.prepare_device();
  if (captured.graph == nullptr) {
    if (captured.warm_ups < warm_up_steps) return warm_up(step, batch, captured);
    capture(step, captured);
    if (captured.graph == nullptr) {
      give_up(obstacle_);
      return step::run_plainly(step, batch);
    }
  }
  return replay(step, batch, captured);
}

// What was captured is of no use when a tensor lies elsewhere, or an option is another.
void GraphRunner::make_ready(Captured& captured, const Tensors& batch) {
  if (captured.graph != nullptr) {
    c10::cuda::getCurrentCUDAStream(device_).synchronize();
    captured = {};
    changes_++;
  }
  if (fits(captured.batch, batch)) return;
  captured = {};
  for (const auto& tensor : batch) captured.batch.push_back(buffer_like(tensor));
}

std::vector<double> GraphRunner::warm_up(step::Step& step, const Tensors& batch, Captured& captured) {
  c10::cuda::getCurrentCUDAStream(device_).synchronize();  // what the step reads was made there
  at::Tensor values;
  step::Outcome outcome;
  {
    c10::cuda::CUDAStreamGuard on_side(side_);
    outcome = step.run_on_device(captured.batch);
    values = outcome.values.cpu();
  }
  side_.synchronize();
  captured.warm_ups++;
  if (!outcome.obstacle.empty()) give_up(outcome.obstacle);
  return step.read(outcome, values, batch);
}

void GraphRunner::capture(step::Step& step, Captured& captured) {
  if (changes_ > most_changes) {
    obstacle_ = "tensors of the step were replaced, or options changed, too often to capture it anew";
    return;
  }
  c10::cuda::getCurrentCUDAStream(device_).synchronize();
  // What the warm-up needed lies in the side stream's cache, where no other stream can use it.
  c10::cuda::CUDACachingAllocator::emptyCache();

  c10::cuda::CUDAStreamGuard on_side(side_);
  auto before = step.assumptions(captured.batch);
  auto graph = std::make_unique<at::cuda::CUDAGraph>();
  bool is_capturing = false;
  try {
    // Other threads go on to use the GPU: the next batch is loaded meanwhile.
    graph->capture_begin(shared_pool(), cudaStreamCaptureModeThreadLocal);
    is_capturing = true;
    captured.outcome = step.run_on_device(captured.batch);
    is_capturing = false;
    graph->capture_end();
  } catch (const std::exception& error) {
    obstacle_ = "a CUDA graph cannot hold the step: " + reason_of(error);
    captured.outcome = {};
    if (is_capturing) {
      try {
        graph->capture_end();  // ends the stream's state; that the capture failed is known
      } catch (const std::exception&) {
      }
      if (!compat::failed_captures_end) graph.release();
    }
    // Nothing of the capture was computed, and nothing of it may be trained on.
    TORCH_CHECK(step.assumptions(captured.batch) == before, obstacle_,
                "; the optimizer's state was made by that step and is lost");
    return;
  }
  captures_++;
  // State that was made while capturing is filled by the first replay; a second would make it again. What is
  // kept are the assumptions before, so that the next step captures anew.
  captured.assumptions = std::move(before);
  trained_ = step.trained();
  for (const auto& parameter : trained_) captured.gradients.push_back(parameter.grad());
  captured.graph = std::move(graph);
}

// Graphs share their memory: none keeps anything there from one replay to the next that is not read in
// between. A pool without a graph is gone, so that the first graph brings one.
c10::MempoolId_t GraphRunner::shared_pool() {
  for (const auto& [key, other] : captured_)
    if (other.graph != nullptr) return other.graph->pool();
  return {0, 0};
}

// On the current stream, after whatever was done there with the tensors of the step.
std::vector<double> GraphRunner::replay(step::Step& step, const Tensors& batch, Captured& captured) {
  captured.graph->replay();
  replays_++;
  auto values = captured.outcome.values.cpu();
  for (size_t i = 0; i < trained_.size(); i++) trained_[i].mutable_grad() = captured.gradients[i];
  return step.read(captured.outcome, values, batch);
}

void GraphRunner::give_up(std::string reason) {
  obstacle_ = std::move(reason);
  release();
}

// The memory goes back to the GPU: nothing but a graph could use it.
void GraphRunner::release() {
  if (captured_.empty()) return;
  c10::cuda::CUDAGuard on_device(device_);
  at::NoGradGuard no_grad;
  c10::cuda::getCurrentCUDAStream(device_).synchronize();
  for (const auto& parameter : trained_)
    if (auto& gradient = parameter.mutable_grad(); gradient.defined()) gradient = gradient.clone();
  trained_.clear();
  captured_.clear();
  c10::cuda::CUDACachingAllocator::emptyCache();
}

}  // namespace alambic::cuda

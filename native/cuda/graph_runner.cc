#include "cuda/graph_runner.h"

#include <ATen/core/grad_mode.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <chrono>

namespace alambic::cuda {

namespace {

constexpr int warm_up_steps = 3;  // as PyTorch's notes on CUDA graphs advise
// Whoever moves tensors about at every step trains without graphs.
constexpr int64_t most_changes = 16;
// Of each of two graphs, before one is chosen. The first ones upload what they launch.
constexpr size_t trial_replays = 16, trial_skipped = 4;
// By how much the side part has to be faster beside the rest: two streams take more of the GPU's memory.
constexpr double worthwhile = 0.98;

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

double median(std::vector<double> values) {
  auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

Event::~Event() {
  if (event_ != nullptr) C10_CUDA_CHECK_WARN(cudaEventDestroy(event_));
}

void Event::record(const c10::cuda::CUDAStream& stream) {
  if (event_ == nullptr) C10_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
  C10_CUDA_CHECK(cudaEventRecord(event_, stream));
}

void Event::block(const c10::cuda::CUDAStream& stream) const {
  C10_CUDA_CHECK(cudaStreamWaitEvent(stream, event_));
}

SideStream::SideStream(c10::DeviceIndex device)
    : own_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device)), entered_from_(own_) {}

void SideStream::enter() {
  entered_from_ = c10::cuda::getCurrentCUDAStream(own_.device_index());
  entered_.record(entered_from_);
  entered_.block(own_);
  c10::cuda::setCurrentCUDAStream(own_);
}

void SideStream::leave() { c10::cuda::setCurrentCUDAStream(entered_from_); }

void SideStream::join() {
  done_.record(own_);
  done_.block(c10::cuda::getCurrentCUDAStream(own_.device_index()));
}

GraphRunner::GraphRunner(c10::DeviceIndex device)
    : device_(device),
      capturing_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device)),
      side_(device) {}

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
  if (captured.graphs.empty() || captured.assumptions != step.assumptions(batch)) {
    if (auto reason = step.obstacle(batch); !reason.empty()) {
      give_up(reason);
      return step::run_plainly(step, batch);
    }
    make_ready(captured, batch);
  }
  fill(captured.batch, batch);
  step.prepare_device();
  if (captured.graphs.empty()) {
    if (captured.warm_ups < warm_up_steps) return warm_up(step, batch, captured);
    capture(step, captured);
    if (captured.graphs.empty()) {
      give_up(obstacle_);
      return step::run_plainly(step, batch);
    }
  }
  return replay(step, batch, captured);
}

// What was captured is of no use when a tensor lies elsewhere, or an option is another.
void GraphRunner::make_ready(Captured& captured, const Tensors& batch) {
  if (!captured.graphs.empty()) {
    c10::cuda::getCurrentCUDAStream(device_).synchronize();
    captured = {};
    changes_++;
  }
  if (fits(captured.batch, batch)) return;
  captured = {};
  for (const auto& tensor : batch) captured.batch.push_back(buffer_like(tensor));
}

// The second warms up the side stream, which has workspaces of its own.
std::vector<double> GraphRunner::warm_up(step::Step& step, const Tensors& batch, Captured& captured) {
  c10::cuda::getCurrentCUDAStream(device_).synchronize();  // what the step reads was made there
  at::Tensor values;
  step::Outcome outcome;
  {
    c10::cuda::CUDAStreamGuard on_stream(capturing_);
    bool is_beside = compat::graphs_hold_streams && captured.warm_ups == 1 && is_beside_.value_or(true);
    outcome = step.run_on_device(captured.batch, is_beside ? &side_ : nullptr);
    values = outcome.values.cpu();
  }
  capturing_.synchronize();
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
  // What the warm-up needed lies in the caches of other streams, where no other can use it.
  c10::cuda::CUDACachingAllocator::emptyCache();

  c10::cuda::CUDAStreamGuard on_stream(capturing_);
  auto before = step.assumptions(captured.batch);
  bool can_be_beside = compat::graphs_hold_streams && step.has_side_part();
  bool was_faster = can_be_beside && is_beside_.value_or(false);
  auto reason = capture(step, captured, was_faster);
  bool is_unchanged = step.assumptions(captured.batch) == before;
  if (was_faster && !reason.empty() && is_unchanged) {
    is_beside_ = false;
    reason = capture(step, captured, /*is_beside=*/false);
    is_unchanged = step.assumptions(captured.batch) == before;
  }
  if (!reason.empty()) {
    obstacle_ = "a CUDA graph cannot hold the step: " + reason;
    // Nothing of the capture was computed, and nothing of it may be trained on.
    TORCH_CHECK(is_unchanged, obstacle_, "; the optimizer's state was made by that step and is lost");
    return;
  }
  captures_++;
  trained_ = step.trained();
  // State that was made while capturing is filled by the first replay; a second would make it again. What is
  // kept are the assumptions before, so that the next step captures anew.
  captured.assumptions = std::move(before);
  // Where one of the two cannot be, there is nothing to choose.
  if (can_be_beside && !is_beside_ && is_unchanged && !capture(step, captured, /*is_beside=*/true).empty())
    is_beside_ = false;
}

std::string GraphRunner::capture(step::Step& step, Captured& captured, bool is_beside) {
  Graph made;
  made.is_beside = is_beside;
  made.graph = std::make_unique<at::cuda::CUDAGraph>();
  bool is_capturing = false;
  try {
    auto pool = captured.graphs.empty() ? shared_pool() : captured.graphs.front().graph->pool();
    // Other threads go on to use the GPU: the next batch is loaded meanwhile.
    made.graph->capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    is_capturing = true;
    made.outcome = step.run_on_device(captured.batch, is_beside ? &side_ : nullptr);
    is_capturing = false;
    made.graph->capture_end();
  } catch (const std::exception& error) {
    auto reason = reason_of(error);
    c10::cuda::setCurrentCUDAStream(capturing_);  // the side stream may not have been left
    made.outcome = {};
    if (is_capturing) {
      try {
        made.graph->capture_end();  // ends the stream's state; that the capture failed is known
      } catch (const std::exception&) {
      }
      if (!compat::failed_captures_end) made.graph.release();
    }
    return reason;
  }
  for (const auto& parameter : step.trained()) made.gradients.push_back(parameter.grad());
  captured.graphs.push_back(std::move(made));
  return "";
}

// Graphs share their memory: none keeps anything there from one replay to the next that is not read in
// between. A pool without a graph is gone, so that the first graph brings one.
c10::MempoolId_t GraphRunner::shared_pool() {
  for (const auto& [key, other] : captured_)
    if (!other.graphs.empty()) return other.graphs.front().graph->pool();
  return {0, 0};
}

// On the current stream, after whatever was done there with the tensors of the step.
std::vector<double> GraphRunner::replay(step::Step& step, const Tensors& batch, Captured& captured) {
  bool is_trial = captured.graphs.size() > 1;
  auto& graph = is_trial ? next_on_trial(captured) : captured.graphs.front();
  if (is_trial) c10::cuda::getCurrentCUDAStream(device_).synchronize();
  auto start = std::chrono::steady_clock::now();
  graph.graph->replay();
  replays_++;
  auto values = graph.outcome.values.cpu();
  if (is_trial)
    graph.seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  for (size_t i = 0; i < trained_.size(); i++) trained_[i].mutable_grad() = graph.gradients[i];
  auto losses = step.read(graph.outcome, values, batch);
  if (is_trial) decide(captured);
  return losses;
}

GraphRunner::Graph& GraphRunner::next_on_trial(Captured& captured) {
  auto &one = captured.graphs[0], &other = captured.graphs[1];
  return one.seconds.size() <= other.seconds.size() ? one : other;
}

// All graphs of the training follow the first that is decided.
void GraphRunner::decide(Captured& captured) {
  if (!is_beside_) {
    for (auto& graph : captured.graphs)
      if (graph.seconds.size() < trial_replays) return;
    for (auto& graph : captured.graphs)
      seconds_[graph.is_beside ? 1 : 0] =
          median({graph.seconds.begin() + trial_skipped, graph.seconds.end()});
    is_beside_ = seconds_[1] < worthwhile * seconds_[0];
  }
  auto& graphs = captured.graphs;
  graphs.erase(std::remove_if(graphs.begin(), graphs.end(),
                              [&](const Graph& each) { return each.is_beside != *is_beside_; }),
               graphs.end());
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

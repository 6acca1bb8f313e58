// Steps as CUDA graphs: what a step launches is captured once and then launched as one.
#pragma once
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAStream.h>

#include <array>
#include <map>
#include <memory>

#include "compat.h"
#include "step/step.h"

namespace alambic::cuda {

using step::Tensors;

// A point in a stream that others wait for. It belongs to the device that is current when it is first
// recorded. ATen's class for it takes headers of CUDA's libraries, which not every toolkit has.
class Event {
 public:
  Event() = default;
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(const c10::cuda::CUDAStream& stream);
  void block(const c10::cuda::CUDAStream& stream) const;

 private:
  cudaEvent_t event_ = nullptr;
};

// A step's side part, on another stream.
class SideStream final : public step::SideStream {
 public:
  explicit SideStream(c10::DeviceIndex device);
  void enter() override;
  void leave() override;
  void join() override;

 private:
  c10::cuda::CUDAStream own_, entered_from_;
  Event entered_, done_;
};

// One graph per key of a step. Each begins with a few steps on the stream that captures it: libraries make
// their plans and workspaces then, which a capture must not. All these steps train: the numbers are those of
// training without.
//
// One graph holds the whole step. Whether the loss is finite is decided on the device (the optimizer's
// kernels look at one number before they write), because a graph for each half, with the host in between,
// leaves the GPU idle for a launch and a transfer at every step.
//
// A step with a side part is captured twice, with that part in line and beside the rest. Small kernels leave
// room on a GPU for others, large ones get in each other's way: the first replays, which are steps like any
// other, take both in turn, and the faster one stays.
class GraphRunner final : public step::StepRunner {
 public:
  explicit GraphRunner(c10::DeviceIndex device);
  ~GraphRunner() override;
  std::vector<double> run(step::Step& step, const Tensors& batch) override;
  step::RunnerReport report() const override {
    return {captures_, replays_, obstacle_, seconds_[0], seconds_[1], is_beside_.value_or(false)};
  }

 private:
  struct Graph {
    bool is_beside = false;  // the side part
    std::unique_ptr<at::cuda::CUDAGraph> graph;
    step::Outcome outcome;
    Tensors gradients;  // of the trained parameters, undefined where they have none
    std::vector<double> seconds;
  };
  // A step with its buffers. Without a graph as long as it warms up, with two until the faster one is known.
  struct Captured {
    Tensors batch;
    int warm_ups = 0;
    std::vector<Graph> graphs;
    std::vector<int64_t> assumptions;
  };

  void make_ready(Captured& captured, const Tensors& batch);
  std::vector<double> warm_up(step::Step& step, const Tensors& batch, Captured& captured);
  // Leaves a reason in `obstacle_` where it cannot be.
  void capture(step::Step& step, Captured& captured);
  // Adds a graph, or returns why it cannot.
  std::string capture(step::Step& step, Captured& captured, bool is_beside);
  c10::MempoolId_t shared_pool();
  std::vector<double> replay(step::Step& step, const Tensors& batch, Captured& captured);
  // One of two graphs whose times are being compared.
  Graph& next_on_trial(Captured& captured);
  void decide(Captured& captured);
  void give_up(std::string reason);
  void release();

  c10::DeviceIndex device_;
  c10::cuda::CUDAStream capturing_;
  SideStream side_;
  std::map<int64_t, Captured> captured_;
  int64_t captures_ = 0, replays_ = 0, changes_ = 0;
  std::string obstacle_;
  optional<bool> is_beside_;         // what was faster
  std::array<double, 2> seconds_{};  // in line, beside
  Tensors trained_;                  // whose gradients lie in the pool
};

}  // namespace alambic::cuda

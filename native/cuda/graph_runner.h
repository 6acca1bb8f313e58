// Steps as CUDA graphs: what a step launches is captured once and then launched as one.
#pragma once
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAStream.h>

#include <map>
#include <memory>

#include "step/step.h"

namespace alambic::cuda {

using step::Tensors;

// One graph per key of a step. Each begins with a few steps on the stream that captures it: libraries make
// their plans and workspaces then, which a capture must not. All these steps train: the numbers are those of
// training without.
//
// One graph holds the whole step. Whether the loss is finite is decided on the device (the optimizer's
// kernels look at one number before they write), because a graph for each half, with the host in between,
// leaves the GPU idle for a launch and a transfer at every step.
class GraphRunner final : public step::StepRunner {
 public:
  explicit GraphRunner(c10::DeviceIndex device);
  ~GraphRunner() override;
  std::vector<double> run(step::Step& step, const Tensors& batch) override;
  step::RunnerReport report() const override { return {captures_, replays_, obstacle_}; }

 private:
  // A step with its buffers; `graph` is null as long as it warms up.
  struct Captured {
    Tensors batch;
    int warm_ups = 0;
    std::unique_ptr<at::cuda::CUDAGraph> graph;
    std::vector<int64_t> assumptions;
    step::Outcome outcome;
    Tensors gradients;  // of the trained parameters, undefined where they have none
  };

  void make_ready(Captured& captured, const Tensors& batch);
  std::vector<double> warm_up(step::Step& step, const Tensors& batch, Captured& captured);
  // Leaves a reason in `obstacle_` where it cannot be.
  void capture(step::Step& step, Captured& captured);
  c10::MempoolId_t shared_pool();
  std::vector<double> replay(step::Step& step, const Tensors& batch, Captured& captured);
  void give_up(std::string reason);
  void release();

  c10::DeviceIndex device_;
  c10::cuda::CUDAStream side_;
  std::map<int64_t, Captured> captured_;
  int64_t captures_ = 0, replays_ = 0, changes_ = 0;
  std::string obstacle_;
  Tensors trained_;  // whose gradients lie in the pool
};

}  // namespace alambic::cuda

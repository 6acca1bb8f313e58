// One training step without JavaScript: losses, gradients, update. The CUDA library sees these classes only
// through their virtual functions, because it is not linked to the addon.
#pragma once
#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace alambic::step {

using Tensors = std::vector<at::Tensor>;

// Labels that the device has looked at: those of one tensor of the batch, for one loss.
struct LabelCheck {
  std::string loss;
  size_t batch_index;
  int64_t classes, ignore_index;
};

// What a step leaves on the device where the host decides nothing.
struct Outcome {
  // float64: the losses, where gradients are clipped the norm that they had, then for each check 1 where a
  // label was out of range, else 0.
  at::Tensor values;
  std::vector<LabelCheck> checks;
  // Why the host had to wait for the device all the same; empty if it had not.
  std::string obstacle;
};

// Where a step does its side part, beside what follows: see trace/side_part.h.
class SideStream {
 public:
  virtual ~SideStream() = default;
  virtual void enter() = 0;  // what comes now runs there, after all that was launched before
  virtual void leave() = 0;
  virtual void join() = 0;  // what comes now runs after all that was launched there
};

// What a runner carries out; made anew for each step.
class Step {
 public:
  virtual ~Step() = default;

  // ---- Where the host looks at the losses between the halves of a step

  virtual void compute_losses(const Tensors& batch) = 0;
  // The numbers of compute_losses. Waits for the device.
  virtual std::vector<double> read_losses() const = 0;
  virtual void compute_gradients() = 0;
  // Where gradients are clipped the norm that they had, else nothing. Waits for the device.
  virtual std::vector<double> read_gradient_norm() const = 0;
  virtual void update() = 0;

  // ---- Where the device decides

  // Why it cannot, or nothing.
  virtual std::string obstacle(const Tensors& batch) const = 0;
  // Names the step among those of one training: steps of one key do the same with batches of one shape.
  virtual int64_t key() const = 0;
  // What run_on_device takes for given, all but the values of tensors and the learning rates: whoever keeps
  // what it did has to do it again when this changes.
  virtual std::vector<int64_t> assumptions(const Tensors& batch) const = 0;
  // Brings what the device reads (learning rates) up to date. Before each run_on_device, or what stands for
  // it.
  virtual void prepare_device() = 0;
  // Whether there is a part that can run beside what follows it.
  virtual bool has_side_part() const = 0;
  // The whole step without waiting for the device. No weight changes where the first loss or the norm of the
  // gradients is not finite or a label is out of range; such labels are overwritten, so that the batch must
  // be nobody else's. Without a side stream the step does all in line.
  virtual Outcome run_on_device(const Tensors& batch, SideStream* side = nullptr) = 0;
  // Losses and norm from the values of an outcome, now on the host. Throws ERR_LABEL_RANGE for this batch,
  // which still has its labels.
  virtual std::vector<double> read(const Outcome& outcome, const at::Tensor& values,
                                   const Tensors& batch) const = 0;
  virtual const Tensors& trained() const = 0;
};

// How steps went.
struct RunnerReport {
  // Graphs captured, and steps that replayed one.
  int64_t captures = 0, replays = 0;
  // Why steps run operator by operator although there is a GPU, or nothing.
  std::string obstacle;
  // What a step took in line and with its side part beside the rest; 0 where both were not tried. And which
  // of the two it does since.
  double seconds_in_line = 0, seconds_beside = 0;
  bool is_beside = false;
};

// How a step is carried out on a device.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  // Returns the losses, and where gradients are clipped the norm that they had. Where the first loss, or the
  // norm, is not finite no weight has changed.
  virtual std::vector<double> run(Step& step, const Tensors& batch) = 0;
  virtual RunnerReport report() const { return {}; }
};

// Operator after operator. Inline, for runners outside of the addon too.
inline std::vector<double> run_plainly(Step& step, const Tensors& batch) {
  step.compute_losses(batch);
  auto values = step.read_losses();
  if (!std::isfinite(values.front())) return values;
  step.compute_gradients();
  for (double norm : step.read_gradient_norm()) {
    values.push_back(norm);
    if (!std::isfinite(norm)) return values;
  }
  step.update();
  return values;
}

// Operator after operator, on any device.
class PlainRunner : public StepRunner {
 public:
  explicit PlainRunner(std::string obstacle = "") : obstacle_(std::move(obstacle)) {}
  std::vector<double> run(Step& step, const Tensors& batch) override { return run_plainly(step, batch); }
  RunnerReport report() const override { return {0, 0, obstacle_}; }

 private:
  std::string obstacle_;
};

// As a graph would do it, but anew at each step, on any device.
class DeviceRunner : public StepRunner {
 public:
  std::vector<double> run(Step& step, const Tensors& batch) override;
  RunnerReport report() const override { return {0, 0, obstacle_}; }

 private:
  std::string obstacle_;
};

}  // namespace alambic::step

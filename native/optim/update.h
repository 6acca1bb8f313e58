// An optimizer as a compiled step uses it: without JavaScript, in any thread.
#pragma once
#include <ATen/ATen.h>

#include <string>
#include <vector>

namespace alambic::optim {

class Update {
 public:
  virtual ~Update() = default;

  // A step in another thread works with it: JavaScript has to leave it alone. Written and read on the
  // JavaScript thread only.
  bool is_busy = false;

  virtual void zero_grad() = 0;
  // With the options that JavaScript prepared.
  virtual void step() = 0;

  // ---- Decided on the device, as a CUDA graph needs it

  // As step(), but learning rates are read on the device, and nothing changes where `skip`, one float32
  // there, is 1. Does what the prepared options say otherwise: a graph holds them as they were.
  virtual void step_unless(const at::Tensor& skip) = 0;
  // Brings the learning rates on the device up to those that JavaScript prepared.
  virtual void write_rates() = 0;
  // Why there is no step_unless for these parameters and options, or nothing.
  virtual std::string obstacle() const = 0;
  // The prepared numbers that step_unless takes for given: all but the learning rates.
  virtual std::vector<double> constants() const = 0;
  // All tensors of the state, undefined ones too.
  virtual std::vector<at::Tensor> state() const = 0;
};

}  // namespace alambic::optim

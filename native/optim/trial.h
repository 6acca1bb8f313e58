// Whether libtorch's kernels compute what the formula says. A kernel may be wrong in one dtype and at some
// sizes only: the fused SGD of libtorch 2.13 leaves whole vectors of bfloat16 and float16 on the CPU as they
// were. So each kernel is tried before the first step that would take it, once per process, dtype and kind of
// device.
#pragma once
#include "optim/optimizer.h"

namespace alambic::optim {

// A step of a batch with the options of a variant.
using TrialStep = std::function<void(Batch& batch, size_t variant)>;

struct Trial {
  size_t entries;   // of an optimizer's state
  size_t variants;  // of its options
  TrialStep tried;
  TrialStep formula;  // is given float64 on the CPU
};

// What `run` said for this kernel (a literal) and for parameters of this dtype and kind of device; asks it
// the first time. From any thread.
bool is_right_once(const char* kernel, const at::Tensor& parameter, const std::function<bool()>& run);

// Whether `tried` does to parameters of that dtype on that device what `formula` says, in all variants: for
// sizes around the widths of vectors and the shares of threads, over several steps, within rounding. Takes a
// few milliseconds.
bool agrees(const at::Tensor& parameter, const Trial& trial);

// A decision to take the step, and how it becomes one to leave it out.
DeviceDecision make_decision(double lr, const Batch& batch);
void skip_next(DeviceDecision& decision);

}  // namespace alambic::optim

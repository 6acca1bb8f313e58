// The part of a recording that a GPU may do beside what follows it: a teacher's forward, beside its
// student's.
#pragma once
#include <torch/csrc/jit/ir/ir.h>

#include <string>

#include "step/step.h"
#include "trace/recorder.h"

namespace alambic::trace {

// Where a side part begins and ends, while a function is recorded that will be replayed.
void record_side_part(bool begins);

// The part between the two marks of a graph, once it was looked at.
struct SidePart {
  bool found = false;
  // Why it cannot run beside the rest, or nothing. Its marks are gone then.
  std::string obstacle;
};

// Marks in the graph where what follows a side part first needs it. Both run at the same time up to there,
// which is allowed if neither writes what the other uses. Of `inputs`, the tensors that the graph was
// recorded with, only number `shared` may be read by both.
SidePart settle_side_part(torch::jit::Graph& graph, const Tensors& inputs, size_t shared);

// Moves a settled side part to where it is needed.
void defer_side_part(torch::jit::Graph& graph);

// Recordings that run on this thread while it lives have their side part done by `stream`; null: in line.
class OnSideStream {
 public:
  explicit OnSideStream(step::SideStream* stream);
  ~OnSideStream();
  OnSideStream(const OnSideStream&) = delete;
  OnSideStream& operator=(const OnSideStream&) = delete;

 private:
  step::SideStream* outer_;
};

}  // namespace alambic::trace

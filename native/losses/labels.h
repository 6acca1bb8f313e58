// Checks of class labels and other indices: libtorch reads past its tables (CPU, in places) or loses the
// whole CUDA context when one is out of range.
#pragma once
#include <ATen/ATen.h>
#include <napi.h>

#include "compat.h"
#include "step/step.h"

namespace alambic {

// `labels` are int64 classes for `logits`: (N) for (N, C), (N, d1, …) for (N, C, d1, …), () for (C). Throws
// ERR_DTYPE, ERR_SHAPE_MISMATCH, or ERR_LABEL_RANGE with the first label that is neither a class nor
// `ignore_index`. `what` names the loss. On a GPU this waits for the labels to be computed.
void check_labels(const char* what, const at::Tensor& logits, const at::Tensor& labels, int64_t ignore_index);

// The last of these checks: ERR_LABEL_RANGE.
void check_label_range(const char* what, const at::Tensor& labels, int64_t classes, int64_t ignore_index);

// While it lives, checks of labels in this thread do not wait for the device, where that is possible: they
// leave there whether one failed, and put `ignore_index` in the place of what is no class, so that no kernel
// stumbles over it.
class DeferredLabelChecks {
 public:
  // `replaceable`: tensors that may be written to.
  explicit DeferredLabelChecks(const std::vector<at::Tensor>& replaceable);
  ~DeferredLabelChecks();
  DeferredLabelChecks(const DeferredLabelChecks&) = delete;
  DeferredLabelChecks& operator=(const DeferredLabelChecks&) = delete;

  // Whether the labels of this check were out of range; one boolean each.
  std::vector<at::Tensor> failed;
  std::vector<step::LabelCheck> checks;
  // Why a check could not be deferred, or nothing.
  std::string obstacle;

  // Whether it is left to the device.
  bool defer(const char* what, const at::Tensor& labels, int64_t classes, int64_t ignore_index);

 private:
  const std::vector<at::Tensor>& replaceable_;
  DeferredLabelChecks* outer_;
};

struct IndexOutOfRange {
  std::vector<int64_t> position;
  int64_t value;
};

// The first element of an int64 or int32 tensor outside of [0, end), unless it equals `ignored`.
optional<IndexOutOfRange> find_out_of_range(const at::Tensor& indices, int64_t end,
                                            optional<int64_t> ignored);

void export_labels(Napi::Env env, Napi::Object exports);

}  // namespace alambic

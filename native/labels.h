// Checks of class labels and other indices: libtorch reads past its tables (CPU, in places) or loses the
// whole CUDA context when one is out of range.
#pragma once
#include <ATen/ATen.h>
#include <napi.h>

#include "compat.h"

namespace alambic {

// `labels` are int64 classes for `logits`: (N) for (N, C), (N, d1, …) for (N, C, d1, …), () for (C). Throws
// ERR_DTYPE, ERR_SHAPE_MISMATCH, or ERR_LABEL_RANGE with the first label that is neither a class nor
// `ignore_index`. `what` names the loss. On a GPU this waits for the labels to be computed.
void check_labels(const char* what, const at::Tensor& logits, const at::Tensor& labels, int64_t ignore_index);

struct IndexOutOfRange {
  std::vector<int64_t> position;
  int64_t value;
};

// The first element of an int64 or int32 tensor outside of [0, end), unless it equals `ignored`.
optional<IndexOutOfRange> find_out_of_range(const at::Tensor& indices, int64_t end,
                                            optional<int64_t> ignored);

void export_labels(Napi::Env env, Napi::Object exports);

}  // namespace alambic

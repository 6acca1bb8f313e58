#include "losses/labels.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "errors.h"
#include "tensors/readable.h"
#include "tensors/values.h"
#include "trace/recorder.h"

namespace alambic {

namespace {

std::vector<int64_t> position_of(int64_t offset, at::IntArrayRef sizes) {
  std::vector<int64_t> position(sizes.size());
  for (auto dim = sizes.size(); dim-- > 0; offset /= sizes[dim]) position[dim] = offset % sizes[dim];
  return position;
}

template <typename Index>
optional<IndexOutOfRange> scan(const at::Tensor& indices, int64_t end, optional<int64_t> ignored) {
  auto contiguous = readable(indices).contiguous();
  const auto* values = contiguous.data_ptr<Index>();
  for (int64_t i = 0; i < contiguous.numel(); i++) {
    auto value = static_cast<int64_t>(values[i]);
    if ((value < 0 || value >= end) && value != ignored)
      return IndexOutOfRange{position_of(i, contiguous.sizes()), value};
  }
  return nullopt;
}

at::Tensor mask_out_of_range(const at::Tensor& indices, int64_t end, optional<int64_t> ignored) {
  auto outside = indices.lt(0).logical_or_(indices.ge(end));
  if (ignored) outside.logical_and_(indices.ne(*ignored));
  return outside;
}

// Looks on the device first: only a yes or no has to travel.
bool any_out_of_range(const at::Tensor& indices, int64_t end, optional<int64_t> ignored) {
  return mask_out_of_range(indices, end, ignored).any().item<bool>();
}

thread_local DeferredLabelChecks* deferred = nullptr;

// (N, C, d1, …) -> (N, d1, …)
std::vector<int64_t> label_shape(at::IntArrayRef logits) {
  auto shape = logits.vec();
  shape.erase(shape.begin() + (shape.size() > 1 ? 1 : 0));
  return shape;
}

// checkLabels(what, logits, labels, ignoreIndex)
Napi::Value check_labels_binding(const Napi::CallbackInfo& info) {
  auto what = to_text(info[0], "what");
  auto ignore_index = to_integer(info[3], "ignoreIndex");
  auto check = [what, ignore_index](const trace::Tensors& inputs) {
    check_labels(what.c_str(), inputs[0], inputs[1], ignore_index);
    return trace::Tensors();
  };
  // A file does without: it is a check and no part of the result.
  if (trace::needs_operators())
    check({to_tensor(info[1]), to_tensor(info[2])});
  else
    trace::record_closure(what.c_str(), {to_tensor(info[1]), to_tensor(info[2])}, check, false);
  return info.Env().Undefined();
}

}  // namespace

optional<IndexOutOfRange> find_out_of_range(const at::Tensor& indices, int64_t end,
                                            optional<int64_t> ignored) {
  if (indices.is_meta()) return nullopt;
  at::NoGradGuard no_grad;
  if (!indices.is_cpu()) {
    if (!any_out_of_range(indices, end, ignored)) return nullopt;
    return find_out_of_range(indices.cpu(), end, ignored);
  }
  return indices.scalar_type() == at::kInt ? scan<int32_t>(indices, end, ignored)
                                           : scan<int64_t>(indices, end, ignored);
}

void check_labels(const char* what, const at::Tensor& logits, const at::Tensor& labels,
                  int64_t ignore_index) {
  if (labels.scalar_type() != at::kLong)
    fail("ERR_DTYPE", what, ": labels: expected int64 classes, got ", describe(labels),
         "; convert them with labels.to('int64')");
  if (logits.dim() == 0)
    fail("ERR_SHAPE_MISMATCH", what, ": logits: expected (N, C), got ", describe(logits));
  auto expected = label_shape(logits.sizes());
  if (labels.sizes() != at::IntArrayRef(expected))
    fail("ERR_SHAPE_MISMATCH", what, ": labels: expected (", c10::Join(", ", expected), ") for logits ",
         describe(logits), ", got ", describe(labels));
  auto classes = logits.size(logits.dim() > 1 ? 1 : 0);
  if (deferred == nullptr || !deferred->defer(what, labels, classes, ignore_index))
    check_label_range(what, labels, classes, ignore_index);
}

void check_label_range(const char* what, const at::Tensor& labels, int64_t classes, int64_t ignore_index) {
  if (auto found = find_out_of_range(labels, classes, ignore_index))
    fail("ERR_LABEL_RANGE", what, ": labels[", c10::Join(", ", found->position),
         "]: expected a class from 0 to ", classes - 1, " (", classes, " classes), got ", found->value);
}

DeferredLabelChecks::DeferredLabelChecks(const std::vector<at::Tensor>& replaceable)
    : replaceable_(replaceable), outer_(deferred) {
  deferred = this;
}

DeferredLabelChecks::~DeferredLabelChecks() { deferred = outer_; }

bool DeferredLabelChecks::defer(const char* what, const at::Tensor& labels, int64_t classes,
                                int64_t ignore_index) {
  for (size_t i = 0; i < replaceable_.size(); i++) {
    if (!labels.is_same(replaceable_[i])) continue;
    at::NoGradGuard no_grad;
    // A loss before may have saved the labels for its gradient: they count as unchanged.
    at::AutoDispatchBelowADInplaceOrView unseen;
    auto outside = mask_out_of_range(labels, classes, ignore_index);
    failed.push_back(outside.any());
    labels.masked_fill_(outside, ignore_index);
    checks.push_back({what, i, classes, ignore_index});
    return true;
  }
  obstacle = c10::str(what, ": its labels are computed from the batch, and checked by the host");
  return false;
}

void export_labels(Napi::Env env, Napi::Object exports) {
  exports.Set("checkLabels", Napi::Function::New<guarded<check_labels_binding>>(env, "checkLabels"));
}

}  // namespace alambic

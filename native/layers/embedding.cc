#include "layers/embedding.h"

#include <ATen/core/grad_mode.h>

#include "losses/labels.h"
#include "tensors/values.h"

namespace alambic {

Embedding::Embedding(const Options& options)
    : name_(options.name()),
      count_(options.integer("numEmbeddings", 1)),
      padding_index_(options.is_null("paddingIdx") ? -1 : options.integer("paddingIdx", 0)),
      norm_type_(options.number("normType")),
      scale_grad_by_freq_(options.flag("scaleGradByFreq")),
      sparse_(options.flag("sparse")) {
  options.integer("embeddingDim", 1);
  if (padding_index_ >= count_)
    options.refuse("paddingIdx", "expected an index below numEmbeddings (", count_, "), got ",
                   padding_index_);
  if (!options.is_null("maxNorm")) max_norm_ = options.number("maxNorm");
}

at::Tensor Embedding::forward(const at::Tensor& indices, const at::Tensor& weight) const {
  if (indices.scalar_type() != at::kLong && indices.scalar_type() != at::kInt)
    fail("ERR_DTYPE", name_, ": expected int64 or int32 indices, got ", describe(indices));
  if (auto found = find_out_of_range(indices, count_, nullopt))
    fail("ERR_INDEX", name_, ": indices[", c10::Join(", ", found->position), "]: expected 0 to ", count_ - 1,
         ", got ", found->value);
  if (max_norm_) {
    at::NoGradGuard no_grad;
    auto rows = weight;
    at::embedding_renorm_(rows, indices.contiguous(), *max_norm_, norm_type_);
  }
  return at::embedding(weight, indices, padding_index_, scale_grad_by_freq_, sparse_);
}

}  // namespace alambic

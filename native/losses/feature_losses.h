// The distances between a student's and a teacher's feature, and the attention map.
#pragma once
#include <ATen/ATen.h>

namespace alambic {

// Mean over all elements of (student - teacher)². Equal shapes; of two dtypes, the wider one is computed
// with.
at::Tensor mse_feature_loss(const at::Tensor& student, const at::Tensor& teacher);

// Mean over samples of 1 - cos(student, teacher), each sample flattened; norms below 1e-12 count as 1e-12. In
// float16, where that is no number, a sample whose norm is below 2⁻¹⁴ counts as zero: its distance is 1, and
// it gets no gradient. Equal shapes; of two dtypes, the wider one is computed with. The dtypes are those of
// the features before anything widened them.
at::Tensor cosine_feature_loss(const at::Tensor& student, const at::Tensor& teacher,
                               at::ScalarType student_dtype, at::ScalarType teacher_dtype);

// (N, C, *) -> (N, 1, *): mean over channels of the squares, scaled to unit L2 norm per sample (norms below
// 1e-12 count as 1e-12; in float16, maps with a norm below 2⁻²⁸ count as zero). The dtype is that of the
// features before anything widened them. After Zagoruyko & Komodakis, "Paying More Attention to Attention",
// 2017.
at::Tensor attention_map(const at::Tensor& features, at::ScalarType dtype);

}  // namespace alambic

// The distances between a student's and a teacher's feature, and the attention map.
#pragma once
#include <ATen/ATen.h>

namespace alambic {

// Mean over all elements of (student - teacher)². Equal shapes.
at::Tensor mse_feature_loss(const at::Tensor& student, const at::Tensor& teacher);

// Mean over samples of 1 - cos(student, teacher), each sample flattened; norms below 1e-12 count as 1e-12.
// Equal shapes.
at::Tensor cosine_feature_loss(const at::Tensor& student, const at::Tensor& teacher);

// (N, C, *) -> (N, 1, *): mean over channels of the squares, scaled to unit L2 norm per sample (norms below
// 1e-12 count as 1e-12). The seed's attention map, after Zagoruyko & Komodakis, "Paying More Attention to
// Attention", 2017.
at::Tensor attention_map(const at::Tensor& features);

}  // namespace alambic

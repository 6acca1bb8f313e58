// Checks of what a layer is given. `name` is the layer's.
#pragma once
#include <ATen/ATen.h>

#include <string>

namespace alambic {

// The layout of features in messages: "(N, 3, H, W)" for 2 spatial dimensions, "(N, 3)" for none.
std::string feature_layout(int64_t channels, int64_t spatial_dims);

// Features (N, channels, …) or, unless `batched`, (channels, …). Throws ERR_SHAPE_MISMATCH for another rank,
// ERR_CHANNEL_MISMATCH for other channels.
void check_features(const std::string& name, const at::Tensor& x, int64_t channels, int64_t spatial_dims,
                    bool batched);

// (N, C, H, W) or (C, H, W) with any number of channels.
void check_images(const std::string& name, const at::Tensor& x);

// libtorch mixes no dtypes in products. Throws ERR_DTYPE.
void check_dtype(const std::string& name, const at::Tensor& x, const at::Tensor& weight);

}  // namespace alambic

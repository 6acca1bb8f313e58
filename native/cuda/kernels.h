// The distillation losses in CUDA, on bare memory. Without libtorch's headers, which nvcc need not read.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace alambic::cuda::kernels {

// Features in half precision are summed in float32; losses, gradients of losses and what is kept between
// forward and backward are then float32 too. The others are of the features' type.
enum class Type { Float, Double, Half, BFloat16 };

// Two features of `samples` × `size` elements, in the same order.
struct Pair {
  Type type;
  const void *a, *b;
  int64_t samples, size;
};

// A feature stored plane by plane, or position by position (channels-last).
struct Feature {
  Type type;
  const void* x;
  int64_t samples, channels, positions;
  bool channels_last;
};

// Numbers (float64) that the function of the same name needs to put its partial sums.
int64_t mse_scratch(const Pair& pair);
int64_t cosine_scratch(const Pair& pair);
// These are of the wider type.
int64_t attention_scratch(const Feature& feature);
int64_t attention_gradient_scratch(const Feature& feature);

// Every sum has its order: results repeat bit for bit.

// loss = mean (a - b)²
void mse(const Pair& pair, double* scratch, void* loss, cudaStream_t stream);
// da = 2 g / n (a - b), db = -da; either may be null.
void mse_gradients(const Pair& pair, const void* g, void* da, void* db, cudaStream_t stream);

// loss = mean over samples of 1 - a·b / (max(‖a‖, 1e-12) max(‖b‖, 1e-12)); kept: per sample a·a, b·b, a·b. In
// half precision a sample with a norm below 2⁻¹⁴ counts as zero, and so does a map with one below 2⁻²⁸.
void cosine(const Pair& pair, double* scratch, void* kept, void* loss, cudaStream_t stream);
void cosine_gradients(const Pair& pair, const void* kept, const void* g, void* da, void* db,
                      cudaStream_t stream);

// map: (samples, positions), mean over channels of the squares, of unit norm per sample; kept: per sample the
// map and the squared norm before.
void attention(const Feature& feature, void* scratch, void* map, void* kept, cudaStream_t stream);
void attention_gradient(const Feature& feature, const void* kept, const void* map_gradient, void* scratch,
                        void* gradient, cudaStream_t stream);

}  // namespace alambic::cuda::kernels

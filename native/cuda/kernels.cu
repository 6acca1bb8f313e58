#include "cuda/kernels.h"

#ifndef ALAMBIC_EMULATED_CUDA  // the tests run this file on the CPU
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace {

constexpr int threads = 256;

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, cudaStream_t stream, Arguments... arguments) {
  kernel<<<grid, threads, 0, stream>>>(static_cast<Parameters>(arguments)...);
}

}  // namespace
#endif

namespace alambic::cuda::kernels {

namespace {

constexpr int warp = 32;
constexpr int64_t most_blocks = 4096;      // of an elementwise kernel, whose threads then take several turns
constexpr int64_t most_partials = 1024;    // blocks of a sum over everything
constexpr int64_t enough_blocks = 1024;    // to fill a GPU; sums are split up to this many
constexpr int64_t most_grid_rows = 65535;  // CUDA's limit for the second and third dimension

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}
int power_of_two_from(int64_t value, int most) {
  int power = 1;
  while (power < value && power < most) power *= 2;
  return power;
}
unsigned int to_grid(int64_t value) { return static_cast<unsigned int>(value); }

// ---- Types

template <typename T>
struct Wider {
  using type = float;
};
template <>
struct Wider<double> {
  using type = double;
};
template <typename T>
using Wide = typename Wider<T>::type;

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ inline T narrow(Wide<T> x) {
  return x;
}
template <>
__device__ inline __half narrow<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// Elements that one instruction loads: 16 bytes.
template <typename T>
constexpr int full_width = 16 / static_cast<int>(sizeof(T));

template <typename T, int width>
struct alignas(sizeof(T) * width) Pack {
  T at[width];
};

template <typename T, int width>
__device__ inline Pack<T, width> load(const T* from, int64_t pack) {
  return reinterpret_cast<const Pack<T, width>*>(from)[pack];
}
template <typename T, int width>
__device__ inline void store(T* to, int64_t pack, const Pack<T, width>& value) {
  reinterpret_cast<Pack<T, width>*>(to)[pack] = value;
}

// Whether packs of 16 bytes can be loaded from rows of this length. Null is no obstacle.
template <typename T>
bool fits_packs(int64_t row, const void* a, const void* b = nullptr, const void* c = nullptr,
                const void* d = nullptr) {
  auto addresses = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) |
                   reinterpret_cast<uintptr_t>(c) | reinterpret_cast<uintptr_t>(d);
  return row % full_width<T> == 0 && addresses % 16 == 0;
}

// Calls `body` with a value of the C++ type.
template <typename Body>
void with_type(Type type, Body body) {
  switch (type) {
    case Type::Float:
      return body(float{});
    case Type::Double:
      return body(double{});
    case Type::Half:
      return body(__half{});
    case Type::BFloat16:
      return body(__nv_bfloat16{});
  }
}

template <int value>
struct Constant {
  static constexpr int of = value;
};

// Calls `body` with the number of elements per pack, as a constant.
template <typename T, typename Body>
void with_width(bool full, Body body) {
  if (full)
    body(Constant<full_width<T>>{});
  else
    body(Constant<1>{});
}

// ---- Sums within a block

template <typename A>
__device__ inline A sum_of_warp(A value) {
  for (int distance = warp / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

// Of each of `count` values over all threads, for all threads to see. Every thread of the block takes part.
template <int count, typename A>
__device__ inline void sum_of_block(A (&values)[count]) {
  __shared__ A of_warps[count][threads / warp];
  __syncthreads();  // readers of the call before
  for (int k = 0; k < count; k++) {
    auto sum = sum_of_warp(values[k]);
    if (threadIdx.x % warp == 0) of_warps[k][threadIdx.x / warp] = sum;
  }
  __syncthreads();
  for (int k = 0; k < count; k++) {
    A sum = 0;
    for (int w = 0; w < threads / warp; w++) sum += of_warps[k][w];
    values[k] = sum;
  }
}

// Which norms of features, and of maps, are too small to divide by: they count as this. Float16 cannot hold
// gradients of 1 / 1e-12: what has a smaller norm counts as zero there.
template <typename T>
struct Floor {
  static constexpr double feature = 1e-12, map = 1e-12;
  static constexpr bool is_zero = false;
};
template <>
struct Floor<__half> {
  static constexpr double feature = 1.0 / (1 << 14), map = 1.0 / (1 << 28);
  static constexpr bool is_zero = true;
};

// Scale 1 / max(‖x‖, least), and whether the norm itself was used (its gradient vanishes below).
template <typename A>
struct InverseNorm {
  __device__ InverseNorm(A squared, double least, bool is_zero) {
    A norm = sqrt(squared), floor = static_cast<A>(least);
    bool below = norm < floor;  // a norm that is no number stays none
    above_floor = !below && squared > 0;
    value = !below ? 1 / norm : is_zero ? A(0) : 1 / floor;
  }
  bool above_floor;
  A value;
};

// ---- Mean squared error

template <typename T, int width>
__global__ void mse_partials(const T* a, const T* b, int64_t count, double* partials) {
  Wide<T> sum[1] = {0};
  auto add = [&](T x, T y) {
    auto difference = widen(x) - widen(y);
    sum[0] += difference * difference;
  };
  int64_t packs = count / width, step = static_cast<int64_t>(gridDim.x) * threads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x; i < packs; i += step) {
    auto x = load<T, width>(a, i), y = load<T, width>(b, i);
    for (int k = 0; k < width; k++) add(x.at[k], y.at[k]);
  }
  if (blockIdx.x == 0)  // what does not fill a pack
    for (int64_t i = packs * width + threadIdx.x; i < count; i += threads) add(a[i], b[i]);
  sum_of_block(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = static_cast<double>(sum[0]);
}

template <typename A>
__global__ void mean_of_partials(const double* partials, int64_t blocks, double count, A* mean) {
  double sum[1] = {0};
  for (int64_t i = threadIdx.x; i < blocks; i += threads) sum[0] += partials[i];
  sum_of_block(sum);
  if (threadIdx.x == 0) *mean = static_cast<A>(sum[0] / count);
}

template <typename T, int width>
__global__ void mse_gradient_kernel(const T* a, const T* b, int64_t count, const Wide<T>* g, double factor,
                                    T* da, T* db) {
  auto scale = static_cast<Wide<T>>(static_cast<double>(*g) * factor);
  int64_t packs = count / width, step = static_cast<int64_t>(gridDim.x) * threads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x; i < packs; i += step) {
    auto x = load<T, width>(a, i), y = load<T, width>(b, i);
    Pack<T, width> dx, dy;
    for (int k = 0; k < width; k++) {
      auto value = scale * (widen(x.at[k]) - widen(y.at[k]));
      dx.at[k] = narrow<T>(value);
      dy.at[k] = narrow<T>(-value);
    }
    if (da != nullptr) store(da, i, dx);
    if (db != nullptr) store(db, i, dy);
  }
  if (blockIdx.x == 0)
    for (int64_t i = packs * width + threadIdx.x; i < count; i += threads) {
      auto value = scale * (widen(a[i]) - widen(b[i]));
      if (da != nullptr) da[i] = narrow<T>(value);
      if (db != nullptr) db[i] = narrow<T>(-value);
    }
}

// ---- Cosine

// partials: per sample and chunk a·a, b·b, a·b.
template <typename T, int width>
__global__ void cosine_partials(const T* a, const T* b, int64_t samples, int64_t size, double* partials) {
  int64_t packs = size / width, step = static_cast<int64_t>(gridDim.x) * threads;
  for (int64_t sample = blockIdx.y; sample < samples; sample += gridDim.y) {
    Wide<T> sums[3] = {0, 0, 0};
    const T *x = a + sample * size, *y = b + sample * size;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x; i < packs; i += step) {
      auto xs = load<T, width>(x, i), ys = load<T, width>(y, i);
      for (int k = 0; k < width; k++) {
        auto p = widen(xs.at[k]), q = widen(ys.at[k]);
        sums[0] += p * p;
        sums[1] += q * q;
        sums[2] += p * q;
      }
    }
    sum_of_block(sums);
    if (threadIdx.x == 0)
      for (int k = 0; k < 3; k++)
        partials[(sample * gridDim.x + blockIdx.x) * 3 + k] = static_cast<double>(sums[k]);
  }
}

// One block, a warp per sample.
template <typename T>
__global__ void cosine_loss(const double* partials, int64_t samples, int64_t chunks, Wide<T>* kept,
                            Wide<T>* loss) {
  using A = Wide<T>;
  auto inverse = [](double squared) {
    return InverseNorm<double>(squared, Floor<T>::feature, Floor<T>::is_zero).value;
  };
  double total[1] = {0};
  int lane = static_cast<int>(threadIdx.x) % warp;
  for (int64_t sample = threadIdx.x / warp; sample < samples; sample += threads / warp) {
    double sums[3] = {0, 0, 0};
    for (int64_t chunk = lane; chunk < chunks; chunk += warp)
      for (int k = 0; k < 3; k++) sums[k] += partials[(sample * chunks + chunk) * 3 + k];
    for (int k = 0; k < 3; k++) sums[k] = sum_of_warp(sums[k]);
    if (lane != 0) continue;
    for (int k = 0; k < 3; k++) kept[sample * 3 + k] = static_cast<A>(sums[k]);
    total[0] += 1 - sums[2] * inverse(sums[0]) * inverse(sums[1]);
  }
  sum_of_block(total);
  if (threadIdx.x == 0) *loss = static_cast<A>(total[0] / static_cast<double>(samples));
}

// d(-a·b/(‖a‖‖b‖))/da = (a·b/‖a‖² a - b) / (‖a‖‖b‖), the first part only where the norm is not floored.
template <typename T, int width>
__global__ void cosine_gradient_kernel(const T* a, const T* b, int64_t samples, int64_t size,
                                       const Wide<T>* kept, const Wide<T>* g, T* da, T* db) {
  using A = Wide<T>;
  int64_t packs = size / width, step = static_cast<int64_t>(gridDim.x) * threads;
  auto gradient = static_cast<A>(static_cast<double>(*g) / static_cast<double>(samples));
  for (int64_t sample = blockIdx.y; sample < samples; sample += gridDim.y) {
    InverseNorm<A> na(kept[sample * 3], Floor<T>::feature, Floor<T>::is_zero);
    InverseNorm<A> nb(kept[sample * 3 + 1], Floor<T>::feature, Floor<T>::is_zero);
    A both = gradient * na.value * nb.value, product = kept[sample * 3 + 2];
    A along_a = na.above_floor ? both * product * na.value * na.value : A(0);
    A along_b = nb.above_floor ? both * product * nb.value * nb.value : A(0);
    int64_t start = sample * size;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x; i < packs; i += step) {
      auto x = load<T, width>(a + start, i), y = load<T, width>(b + start, i);
      Pack<T, width> dx, dy;
      for (int k = 0; k < width; k++) {
        A p = widen(x.at[k]), q = widen(y.at[k]);
        dx.at[k] = narrow<T>(along_a * p - both * q);
        dy.at[k] = narrow<T>(along_b * q - both * p);
      }
      if (da != nullptr) store(da + start, i, dx);
      if (db != nullptr) store(db + start, i, dy);
    }
  }
}

// ---- Attention map

// squares: (splits, samples, positions). A block covers `columns` packs of neighbouring positions with
// threads / columns channels at a time; blockIdx.y is the split of the channels.
template <typename T, int width>
__global__ void attention_squares_of_planes(const T* x, int64_t samples, int64_t channels, int64_t positions,
                                            int columns, Wide<T>* squares) {
  __shared__ Wide<T> of_rows[width][threads];
  int column = static_cast<int>(threadIdx.x) % columns, row = static_cast<int>(threadIdx.x) / columns;
  int rows = threads / columns;
  int64_t packs = positions / width, pack = static_cast<int64_t>(blockIdx.x) * columns + column;
  for (int64_t sample = blockIdx.z; sample < samples; sample += gridDim.z) {
    Wide<T> sums[width] = {};
    if (pack < packs)
      for (int64_t channel = static_cast<int64_t>(blockIdx.y) * rows + row; channel < channels;
           channel += static_cast<int64_t>(gridDim.y) * rows) {
        auto values = load<T, width>(x + (sample * channels + channel) * positions, pack);
        for (int k = 0; k < width; k++) {
          auto value = widen(values.at[k]);
          sums[k] += value * value;
        }
      }
    for (int k = 0; k < width; k++) of_rows[k][threadIdx.x] = sums[k];
    __syncthreads();
    if (row == 0 && pack < packs) {
      auto* out = squares + (blockIdx.y * samples + sample) * positions + pack * width;
      for (int k = 0; k < width; k++) {
        Wide<T> sum = 0;
        for (int r = 0; r < rows; r++) sum += of_rows[k][r * columns + column];
        out[k] = sum;
      }
    }
    __syncthreads();
  }
}

// squares: (samples · positions). `lanes` threads of a warp per position.
template <typename T, int width>
__global__ void attention_squares_of_positions(const T* x, int64_t all_positions, int64_t channels, int lanes,
                                               Wide<T>* squares) {
  int lane = static_cast<int>(threadIdx.x) % lanes, per_warp = warp / lanes;
  int in_warp = static_cast<int>(threadIdx.x) % warp / lanes;
  int64_t packs = channels / width;
  int64_t first = (static_cast<int64_t>(blockIdx.x) * (threads / warp) + threadIdx.x / warp) * per_warp;
  int64_t step = static_cast<int64_t>(gridDim.x) * (threads / warp) * per_warp;
  for (; first < all_positions; first += step) {  // the whole warp, which sums together
    int64_t position = first + in_warp;
    Wide<T> sum = 0;
    if (position < all_positions)
      for (int64_t i = lane; i < packs; i += lanes) {
        auto values = load<T, width>(x + position * channels, i);
        for (int k = 0; k < width; k++) {
          auto value = widen(values.at[k]);
          sum += value * value;
        }
      }
    for (int distance = lanes / 2; distance > 0; distance /= 2)
      sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (lane == 0 && position < all_positions) squares[position] = sum;
  }
}

// A block per sample. kept: (samples, positions + 1).
template <typename T>
__global__ void attention_normalise(const Wide<T>* squares, int64_t splits, int64_t samples, int64_t channels,
                                    int64_t positions, Wide<T>* map, Wide<T>* kept) {
  using A = Wide<T>;
  for (int64_t sample = blockIdx.x; sample < samples; sample += gridDim.x) {
    A *out = map + sample * positions, *keep = kept + sample * (positions + 1);
    A squared[1] = {0};
    for (int64_t k = threadIdx.x; k < positions; k += threads) {
      A sum = 0;
      for (int64_t split = 0; split < splits; split++)
        sum += squares[(split * samples + sample) * positions + k];
      sum /= static_cast<A>(channels);
      out[k] = sum;
      squared[0] += sum * sum;
    }
    sum_of_block(squared);
    InverseNorm<A> norm(squared[0], Floor<T>::map, Floor<T>::is_zero);
    for (int64_t k = threadIdx.x; k < positions; k += threads) {
      out[k] *= norm.value;  // its own: the same thread wrote it
      keep[k] = out[k];
    }
    if (threadIdx.x == 0) keep[positions] = squared[0];
  }
}

// What a feature is multiplied with for its gradient, (samples, positions). A block per sample.
template <typename T>
__global__ void attention_factors(const Wide<T>* kept, const Wide<T>* map_gradient, int64_t samples,
                                  int64_t channels, int64_t positions, Wide<T>* factors) {
  using A = Wide<T>;
  for (int64_t sample = blockIdx.x; sample < samples; sample += gridDim.x) {
    const A *map = kept + sample * (positions + 1), *gradient = map_gradient + sample * positions;
    A *out = factors + sample * positions, along[1] = {0};
    for (int64_t k = threadIdx.x; k < positions; k += threads) along[0] += map[k] * gradient[k];
    sum_of_block(along);
    InverseNorm<A> norm(map[positions], Floor<T>::map, Floor<T>::is_zero);
    // The map's own direction does not count: it is normalised.
    A projection = norm.above_floor ? along[0] : A(0);
    A scale = 2 * norm.value / static_cast<A>(channels);
    for (int64_t k = threadIdx.x; k < positions; k += threads)
      out[k] = scale * (gradient[k] - projection * map[k]);
  }
}

// Index: uint32_t where it is enough, because divisions of 64 bits would take longer than the memory.
template <typename T, int width, typename Index>
__global__ void attention_gradient_kernel(const T* x, const Wide<T>* factors, Index count, Index channels,
                                          Index positions, bool channels_last, T* gradient) {
  Index packs = count / width, step = gridDim.x * threads, plane = channels * positions;
  for (Index i = blockIdx.x * threads + threadIdx.x; i < packs; i += step) {
    auto values = load<T, width>(x, i);
    Index element = i * width;
    if (channels_last) {
      auto factor = factors[element / channels];
      for (int k = 0; k < width; k++) values.at[k] = narrow<T>(widen(values.at[k]) * factor);
    } else {
      const auto* row = factors + (element / plane * positions + element % positions);
      for (int k = 0; k < width; k++) values.at[k] = narrow<T>(widen(values.at[k]) * row[k]);
    }
    store(gradient, i, values);
  }
}

// ---- Sizes of launches

int64_t mse_blocks(const Pair& pair) {
  return clamp(divide_up(pair.samples * pair.size, threads * 16), 1, most_partials);
}

// Per sample.
int64_t cosine_chunks(const Pair& pair) {
  int64_t most = divide_up(pair.size, threads * 16);  // so that a thread has something to sum
  return clamp(divide_up(enough_blocks, pair.samples), 1, most < 1 ? 1 : most);
}

int64_t elementwise_blocks(int64_t packs) { return clamp(divide_up(packs, threads), 1, most_blocks); }

// Packs of positions side by side in a block.
int attention_columns(int64_t packs) { return power_of_two_from(packs, threads); }

int64_t attention_splits(const Feature& feature) {
  if (feature.channels_last) return 1;
  // The smallest grid that any width makes decides, so that the scratch fits every one.
  int64_t packs = divide_up(feature.positions, 8);
  int columns = attention_columns(packs);
  int64_t blocks = divide_up(packs, columns) * feature.samples;
  int64_t most = divide_up(feature.channels, static_cast<int64_t>(threads / columns) * 4);
  return clamp(divide_up(enough_blocks, blocks), 1, most < 1 ? 1 : most);
}

}  // namespace

int64_t mse_scratch(const Pair& pair) { return mse_blocks(pair); }
int64_t cosine_scratch(const Pair& pair) { return pair.samples * cosine_chunks(pair) * 3; }
int64_t attention_scratch(const Feature& feature) {
  return attention_splits(feature) * feature.samples * feature.positions;
}
int64_t attention_gradient_scratch(const Feature& feature) { return feature.samples * feature.positions; }

void mse(const Pair& pair, double* scratch, void* loss, cudaStream_t stream) {
  int64_t count = pair.samples * pair.size, blocks = mse_blocks(pair);
  with_type(pair.type, [&](auto zero) {
    using T = decltype(zero);
    const auto *a = static_cast<const T*>(pair.a), *b = static_cast<const T*>(pair.b);
    with_width<T>(fits_packs<T>(0, a, b), [&](auto width) {
      launch(mse_partials<T, decltype(width)::of>, to_grid(blocks), stream, a, b, count, scratch);
    });
    launch(mean_of_partials<Wide<T>>, 1, stream, scratch, blocks, static_cast<double>(count),
           static_cast<Wide<T>*>(loss));
  });
}

void mse_gradients(const Pair& pair, const void* g, void* da, void* db, cudaStream_t stream) {
  int64_t count = pair.samples * pair.size;
  with_type(pair.type, [&](auto zero) {
    using T = decltype(zero);
    const auto *a = static_cast<const T*>(pair.a), *b = static_cast<const T*>(pair.b);
    with_width<T>(fits_packs<T>(0, a, b, da, db), [&](auto width) {
      constexpr int of = decltype(width)::of;
      launch(mse_gradient_kernel<T, of>, to_grid(elementwise_blocks(count / of)), stream, a, b, count,
             static_cast<const Wide<T>*>(g), 2 / static_cast<double>(count), static_cast<T*>(da),
             static_cast<T*>(db));
    });
  });
}

void cosine(const Pair& pair, double* scratch, void* kept, void* loss, cudaStream_t stream) {
  int64_t chunks = cosine_chunks(pair);
  dim3 grid(to_grid(chunks), to_grid(clamp(pair.samples, 1, most_grid_rows)));
  with_type(pair.type, [&](auto zero) {
    using T = decltype(zero);
    const auto *a = static_cast<const T*>(pair.a), *b = static_cast<const T*>(pair.b);
    with_width<T>(fits_packs<T>(pair.size, a, b), [&](auto width) {
      launch(cosine_partials<T, decltype(width)::of>, grid, stream, a, b, pair.samples, pair.size, scratch);
    });
    launch(cosine_loss<T>, 1, stream, scratch, pair.samples, chunks, static_cast<Wide<T>*>(kept),
           static_cast<Wide<T>*>(loss));
  });
}

void cosine_gradients(const Pair& pair, const void* kept, const void* g, void* da, void* db,
                      cudaStream_t stream) {
  with_type(pair.type, [&](auto zero) {
    using T = decltype(zero);
    const auto *a = static_cast<const T*>(pair.a), *b = static_cast<const T*>(pair.b);
    with_width<T>(fits_packs<T>(pair.size, a, b, da, db), [&](auto width) {
      constexpr int of = decltype(width)::of;
      auto chunks = clamp(divide_up(pair.size / of, threads), 1, divide_up(most_blocks, pair.samples));
      dim3 grid(to_grid(chunks), to_grid(clamp(pair.samples, 1, most_grid_rows)));
      launch(cosine_gradient_kernel<T, of>, grid, stream, a, b, pair.samples, pair.size,
             static_cast<const Wide<T>*>(kept), static_cast<const Wide<T>*>(g), static_cast<T*>(da),
             static_cast<T*>(db));
    });
  });
}

void attention(const Feature& feature, void* scratch, void* map, void* kept, cudaStream_t stream) {
  int64_t splits = attention_splits(feature), all_positions = feature.samples * feature.positions;
  with_type(feature.type, [&](auto zero) {
    using T = decltype(zero);
    const auto* x = static_cast<const T*>(feature.x);
    auto* squares = static_cast<Wide<T>*>(scratch);
    with_width<T>(fits_packs<T>(feature.channels_last ? feature.channels : feature.positions, x),
                  [&](auto width) {
                    constexpr int of = decltype(width)::of;
                    if (feature.channels_last) {
                      int lanes = power_of_two_from(feature.channels / of, warp);
                      auto blocks = elementwise_blocks(all_positions * lanes);
                      launch(attention_squares_of_positions<T, of>, to_grid(blocks), stream, x, all_positions,
                             feature.channels, lanes, squares);
                    } else {
                      int64_t packs = feature.positions / of;
                      int columns = attention_columns(packs);
                      dim3 grid(to_grid(divide_up(packs, columns)), to_grid(splits),
                                to_grid(clamp(feature.samples, 1, most_grid_rows)));
                      launch(attention_squares_of_planes<T, of>, grid, stream, x, feature.samples,
                             feature.channels, feature.positions, columns, squares);
                    }
                  });
    launch(attention_normalise<T>, to_grid(clamp(feature.samples, 1, most_grid_rows)), stream, squares,
           splits, feature.samples, feature.channels, feature.positions, static_cast<Wide<T>*>(map),
           static_cast<Wide<T>*>(kept));
  });
}

void attention_gradient(const Feature& feature, const void* kept, const void* map_gradient, void* scratch,
                        void* gradient, cudaStream_t stream) {
  int64_t count = feature.samples * feature.channels * feature.positions;
  with_type(feature.type, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    const auto* x = static_cast<const T*>(feature.x);
    auto* factors = static_cast<A*>(scratch);
    launch(attention_factors<T>, to_grid(clamp(feature.samples, 1, most_grid_rows)), stream,
           static_cast<const A*>(kept), static_cast<const A*>(map_gradient), feature.samples,
           feature.channels, feature.positions, factors);
    int64_t row = feature.channels_last ? feature.channels : feature.positions;
    with_width<T>(fits_packs<T>(row, x, gradient), [&](auto width) {
      constexpr int of = decltype(width)::of;
      auto blocks = to_grid(elementwise_blocks(count / of));
      auto* out = static_cast<T*>(gradient);
      // A stride past the end must not wrap around either.
      if (count < (int64_t{1} << 31))
        launch(attention_gradient_kernel<T, of, uint32_t>, blocks, stream, x, factors, count,
               feature.channels, feature.positions, feature.channels_last, out);
      else
        launch(attention_gradient_kernel<T, of, uint64_t>, blocks, stream, x, factors, count,
               feature.channels, feature.positions, feature.channels_last, out);
    });
  });
}

}  // namespace alambic::cuda::kernels

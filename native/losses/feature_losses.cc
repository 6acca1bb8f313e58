#include "losses/feature_losses.h"

#include <ATen/Parallel.h>

#include <cmath>

#include "losses/fused.h"
#include "losses/kernels.h"
#include "tensors/readable.h"

namespace alambic {

namespace {

using at::Tensor;
using List = std::vector<Tensor>;

// Which norms are too small to divide by.
struct Floor {
  double least;
  // Norms below count as `least`, or (then what has such a norm counts as zero) their inverse does not count.
  bool is_zero;
};

// As torch.nn.functional.normalize; but float16 cannot hold gradients of 1 / 1e-12 = 10¹²: below its smallest
// normal number, 2⁻¹⁴, a norm is none.
Floor norm_floor(at::ScalarType dtype) {
  return dtype == at::kHalf ? Floor{0x1p-14, true} : Floor{1e-12, false};
}

// Of maps, which are squares.
Floor map_floor(at::ScalarType dtype) {
  return dtype == at::kHalf ? Floor{0x1p-28, true} : Floor{1e-12, false};
}

constexpr int64_t chunk = 1 << 14;  // elements per task: partial sums do not depend on the number of threads

// Samples per task: to wake a thread takes longer than to read a small sample.
int64_t samples_per_task(int64_t sample_size) { return std::max<int64_t>(1, chunk / sample_size); }

// Samples cut into chunks, so that all threads have work also where samples are few.
struct Chunks {
  Chunks(int64_t samples, int64_t size)
      : size(size), per_sample((size + chunk - 1) / chunk), count(samples * per_sample) {}

  // `work(sample, start, length, index)` for each chunk; `start` from the first element of all samples.
  template <typename Work>
  void for_each(Work work) const {
    at::parallel_for(0, count, samples_per_task(size), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        auto sample = i / per_sample, within = i % per_sample * chunk;
        work(sample, sample * size + within, std::min(chunk, size - within), i);
      }
    });
  }

  int64_t size, per_sample, count;
};

// Scale 1 / max(‖x‖, floor), and whether the norm itself was used (its gradient vanishes below the floor).
struct InverseNorm {
  InverseNorm(double squared, const Floor& floor) {
    auto norm = std::sqrt(squared);
    bool below = norm < floor.least;  // a NaN is not: it stays one
    above_floor = !below && squared > 0;
    value = !below ? 1 / norm : floor.is_zero ? 0 : 1 / floor.least;
  }
  bool above_floor;
  double value;
};

// x / max(‖x‖, floor) per sample, samples flattened.
Tensor normalize_samples(const Tensor& features, const Floor& floor) {
  auto flat = features.flatten(1);  // reshape could not tell the size of an empty batch
  auto norm = flat.norm(2, {1}, /*keepdim=*/true);
  auto scaled = flat / norm.clamp_min(floor.least);
  return floor.is_zero ? scaled.masked_fill(norm < floor.least, 0) : scaled;
}

// Room for the gradients of two inputs, where they are needed.
List empty_gradients(const List& inputs, const std::vector<bool>& needed) {
  return {needed[0] ? at::empty_like(inputs[0]) : Tensor(), needed[1] ? at::empty_like(inputs[1]) : Tensor()};
}

Tensor widen(const Tensor& feature) { return feature.to(loss_dtype(feature)); }

// Both as the loss computes with them: in the wider of their types.
List widen_both(const Tensor& student, const Tensor& teacher) {
  auto dtype = at::promote_types(loss_dtype(student), loss_dtype(teacher));
  return {student.to(dtype), teacher.to(dtype)};
}

// Both features in one dense memory order and dtype, so that kernels can walk over them side by side.
List in_same_order(const Tensor& student, const Tensor& teacher) {
  auto format = student.suggest_memory_format();
  auto pair =
      student.scalar_type() == teacher.scalar_type() ? List{student, teacher} : widen_both(student, teacher);
  for (auto& each : pair) each = readable(each).contiguous(format);
  return pair;
}

// ---- Mean squared error
// ----------------------------------------------------------------------------------------

struct MeanSquaredError {
  static bool takes(at::ScalarType, at::ScalarType) { return true; }

  static Tensor formula(const List& inputs) {
    auto pair = widen_both(inputs[0], inputs[1]);
    return at::mse_loss(pair[0], pair[1]);
  }

  static Tensor forward(const List& inputs, Tensor&) {
    const auto &student = inputs[0], &teacher = inputs[1];
    if (student.is_cuda()) return cuda::loss_kernels()->mse(student, teacher);
    int64_t count = student.numel(), chunks = (count + chunk - 1) / chunk;
    std::vector<double> sums(chunks);
    dispatch_kernel_dtype(student.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const T *s = student.data_ptr<T>(), *t = teacher.data_ptr<T>();
      at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          auto start = i * chunk;
          sums[i] = kernels::squared_difference(s + start, t + start, std::min(chunk, count - start));
        }
      });
    });
    double sum = 0;
    for (double each : sums) sum += each;
    return at::scalar_tensor(sum / static_cast<double>(count), student.options().dtype(loss_dtype(student)));
  }

  static List backward(const List& inputs, const Tensor&, const Tensor& output_gradient,
                       const std::vector<bool>& needed) {
    const auto &student = inputs[0], &teacher = inputs[1];
    auto gradients = empty_gradients(inputs, needed);
    if (student.is_cuda()) {
      cuda::loss_kernels()->mse_backward(student, teacher, output_gradient, gradients[0], gradients[1]);
      return gradients;
    }
    int64_t count = student.numel();
    double scale = 2 * output_gradient.item<double>() / static_cast<double>(count);
    dispatch_kernel_dtype(student.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const T *s = student.data_ptr<T>(), *t = teacher.data_ptr<T>();
      T* ds = needed[0] ? gradients[0].data_ptr<T>() : nullptr;
      T* dt = needed[1] ? gradients[1].data_ptr<T>() : nullptr;
      at::parallel_for(0, count, chunk, [&](int64_t begin, int64_t end) {
        kernels::scaled_difference<T>(s + begin, t + begin, end - begin, scale, ds ? ds + begin : nullptr,
                                      dt ? dt + begin : nullptr);
      });
    });
    return gradients;
  }
};

// ---- Cosine
// -------------------------------------------------------------------------------------------------------

struct Cosine {
  // Kernels have one floor.
  static bool takes(at::ScalarType student, at::ScalarType teacher) {
    return student == teacher || (student != at::kHalf && teacher != at::kHalf);
  }

  static Tensor formula(const List& inputs) {
    return formula(inputs, inputs[0].scalar_type(), inputs[1].scalar_type());
  }

  static Tensor formula(const List& inputs, at::ScalarType student_dtype, at::ScalarType teacher_dtype) {
    auto pair = widen_both(inputs[0], inputs[1]);
    pair[0] = normalize_samples(pair[0], norm_floor(student_dtype));
    pair[1] = normalize_samples(pair[1], norm_floor(teacher_dtype));
    return (1 - (pair[0] * pair[1]).sum(1)).mean();
  }

  // `kept`: per sample the products s·s, t·t, s·t; on the CPU in float64.
  static Tensor forward(const List& inputs, Tensor& kept) {
    const auto &student = inputs[0], &teacher = inputs[1];
    if (student.is_cuda()) return cuda::loss_kernels()->cosine(student, teacher, kept);
    int64_t samples = student.size(0), size = student.numel() / samples;
    kept = at::empty({samples, 3},
                     student.options().dtype(at::kDouble).memory_format(at::MemoryFormat::Contiguous));
    auto floor = norm_floor(student.scalar_type());
    double sum = 0;
    dispatch_kernel_dtype(student.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const T *s = student.data_ptr<T>(), *t = teacher.data_ptr<T>();
      Chunks chunks(samples, size);
      std::vector<double> parts(3 * chunks.count);
      chunks.for_each([&](int64_t, int64_t start, int64_t length, int64_t index) {
        kernels::dot_products(s + start, t + start, length, parts.data() + 3 * index);
      });
      auto* products = kept.data_ptr<double>();
      for (int64_t i = 0; i < samples; i++) {
        auto* p = products + 3 * i;
        std::fill(p, p + 3, 0.0);
        for (int64_t k = 0; k < 3 * chunks.per_sample; k++) p[k % 3] += parts[3 * i * chunks.per_sample + k];
        sum += 1 - p[2] * InverseNorm(p[0], floor).value * InverseNorm(p[1], floor).value;
      }
    });
    return at::scalar_tensor(sum / static_cast<double>(samples),
                             student.options().dtype(loss_dtype(student)));
  }

  static List backward(const List& inputs, const Tensor& kept, const Tensor& output_gradient,
                       const std::vector<bool>& needed) {
    const auto &student = inputs[0], &teacher = inputs[1];
    auto gradients = empty_gradients(inputs, needed);
    if (student.is_cuda()) {
      cuda::loss_kernels()->cosine_backward(student, teacher, kept, output_gradient, gradients[0],
                                            gradients[1]);
      return gradients;
    }
    int64_t samples = student.size(0), size = student.numel() / samples;
    dispatch_kernel_dtype(student.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      using Sum = kernels::Sum<T>;
      const T *s = student.data_ptr<T>(), *t = teacher.data_ptr<T>();
      T* ds = needed[0] ? gradients[0].data_ptr<T>() : nullptr;
      T* dt = needed[1] ? gradients[1].data_ptr<T>() : nullptr;
      const auto* products = kept.data_ptr<double>();
      auto gradient = output_gradient.item<double>() / static_cast<double>(samples);
      auto floor = norm_floor(student.scalar_type());
      Chunks(samples, size).for_each([&](int64_t sample, int64_t start, int64_t length, int64_t) {
        const auto* p = products + 3 * sample;
        InverseNorm ns(p[0], floor), nt(p[1], floor);
        // d(-s·t/(‖s‖‖t‖))/ds = (s·t/‖s‖² s - t) / (‖s‖‖t‖), the first part only where the norm is not
        // floored.
        auto both = gradient * ns.value * nt.value;
        auto along_s = ns.above_floor ? both * p[2] * ns.value * ns.value : 0;
        auto along_t = nt.above_floor ? both * p[2] * nt.value * nt.value : 0;
        auto combine = [&](const T* a, const T* b, double p_a, T* out) {
          kernels::combine(a + start, b + start, length, static_cast<Sum>(p_a), static_cast<Sum>(-both),
                           out + start);
        };
        if (ds) combine(s, t, along_s, ds);
        if (dt) combine(t, s, along_t, dt);
      });
    });
    return gradients;
  }
};

// ---- Attention map
// --------------------------------------------------------------------------------------------------

struct AttentionMap {
  static Tensor formula(const List& inputs) { return formula(inputs, inputs[0].scalar_type()); }

  static Tensor formula(const List& inputs, at::ScalarType dtype) {
    auto features = widen(inputs[0]);
    auto map = features.pow(2).mean({1}, /*keepdim=*/true);
    return normalize_samples(map, map_floor(dtype)).reshape(map.sizes());
  }

  // `kept`, on the CPU: (N, positions + 1): the normalised map, and what it was scaled by. In float64:
  // where one position outweighs all others, its gradient is a small difference of large numbers.
  static Tensor forward(const List& inputs, Tensor& kept) {
    if (inputs[0].is_cuda()) return cuda::loss_kernels()->attention_map(inputs[0], kept);
    Layout layout(inputs[0]);
    auto options =
        inputs[0].options().dtype(loss_dtype(inputs[0])).memory_format(at::MemoryFormat::Contiguous);
    auto map = at::empty(map_shape(inputs[0]), options);
    kept = at::empty({layout.samples, layout.positions + 1}, options.dtype(at::kDouble));
    auto floor = map_floor(inputs[0].scalar_type());
    dispatch_kernel_dtype(inputs[0].scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      using Sum = kernels::Sum<T>;
      const T* x = inputs[0].data_ptr<T>();
      auto* out = map.data_ptr<Sum>();
      auto* keep = kept.data_ptr<double>();
      at::parallel_for(0, layout.samples, samples_per_task(layout.sample_size()),
                       [&](int64_t begin, int64_t end) {
                         for (int64_t i = begin; i < end; i++) {
                           auto* sample = keep + i * (layout.positions + 1);
                           mean_squares(layout, x + i * layout.sample_size(), sample);
                           InverseNorm norm(kernels::sum_of_squares(sample, layout.positions), floor);
                           for (int64_t k = 0; k < layout.positions; k++) {
                             sample[k] *= norm.value;
                             out[i * layout.positions + k] = static_cast<Sum>(sample[k]);
                           }
                           sample[layout.positions] = norm.value;
                         }
                       });
    });
    return map;
  }

  static List backward(const List& inputs, const Tensor& kept, const Tensor& output_gradient,
                       const std::vector<bool>&) {
    auto gradient = at::empty_like(inputs[0]);
    if (gradient.is_cuda()) {
      cuda::loss_kernels()->attention_map_backward(inputs[0], kept, output_gradient, gradient);
      return {gradient};
    }
    Layout layout(inputs[0]);
    auto map_gradient = readable(output_gradient).contiguous();
    auto most = 1 / map_floor(inputs[0].scalar_type()).least;
    dispatch_kernel_dtype(inputs[0].scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      using Sum = kernels::Sum<T>;
      const T* x = inputs[0].data_ptr<T>();
      T* dx = gradient.data_ptr<T>();
      const auto* keep = kept.data_ptr<double>();
      const auto* dmap = map_gradient.data_ptr<Sum>();
      at::parallel_for(
          0, layout.samples, samples_per_task(layout.sample_size()), [&](int64_t begin, int64_t end) {
            std::vector<Sum> factor(layout.positions);
            for (int64_t i = begin; i < end; i++) {
              const auto* map = keep + i * (layout.positions + 1);
              const auto* dm = dmap + i * layout.positions;
              auto inverse_norm = map[layout.positions];
              double along = 0;  // the map's own direction does not count: it is normalised
              if (inverse_norm < most)
                for (int64_t k = 0; k < layout.positions; k++) along += map[k] * static_cast<double>(dm[k]);
              auto scale = 2 * inverse_norm / static_cast<double>(layout.channels);
              for (int64_t k = 0; k < layout.positions; k++)
                factor[k] = static_cast<Sum>(scale * (static_cast<double>(dm[k]) - along * map[k]));
              scale_positions(layout, x + i * layout.sample_size(), factor.data(),
                              dx + i * layout.sample_size());
            }
          });
    });
    return {gradient};
  }

  static std::vector<int64_t> map_shape(const Tensor& features) {
    auto shape = features.sizes().vec();
    shape[1] = 1;
    return shape;
  }

 private:
  // A feature as samples × channels × positions, stored plane by plane or (channels-last) position by
  // position.
  struct Layout {
    explicit Layout(const Tensor& features)
        : samples(features.size(0)),
          channels(features.size(1)),
          positions(features.numel() / (samples * channels)),
          channels_last(!features.is_contiguous()) {}
    int64_t sample_size() const { return channels * positions; }
    int64_t samples, channels, positions;
    bool channels_last;
  };

  template <typename T>
  static void mean_squares(const Layout& layout, const T* x, double* out) {
    auto channels = static_cast<double>(layout.channels);
    if (layout.channels_last) {
      for (int64_t k = 0; k < layout.positions; k++)
        out[k] = kernels::sum_of_squares(x + k * layout.channels, layout.channels) / channels;
      return;
    }
    std::fill(out, out + layout.positions, 0.0);
    kernels::add_squares(x, layout.channels, layout.positions, out);
    for (int64_t k = 0; k < layout.positions; k++) out[k] /= channels;
  }

  template <typename T>
  static void scale_positions(const Layout& layout, const T* x, const kernels::Sum<T>* factor, T* out) {
    if (layout.channels_last) {
      for (int64_t k = 0; k < layout.positions; k++)
        kernels::scale(x + k * layout.channels, factor[k], layout.channels, out + k * layout.channels);
      return;
    }
    for (int64_t c = 0; c < layout.channels; c++)
      kernels::multiply(x + c * layout.positions, factor, layout.positions, out + c * layout.positions);
  }
};

bool was_half(const Tensor& feature, at::ScalarType dtype) {
  return dtype == at::kHalf && feature.scalar_type() != at::kHalf;
}

template <typename Loss>
Tensor pair_loss(const Tensor& student, const Tensor& teacher) {
  if (!has_kernels(student) || !has_kernels(teacher) ||
      !Loss::takes(student.scalar_type(), teacher.scalar_type()))
    return Loss::formula({student, teacher});
  return Fused<Loss>::run(in_same_order(student, teacher));
}

}  // namespace

Tensor mse_feature_loss(const Tensor& student, const Tensor& teacher) {
  return pair_loss<MeanSquaredError>(student, teacher);
}

Tensor cosine_feature_loss(const Tensor& student, const Tensor& teacher, at::ScalarType student_dtype,
                           at::ScalarType teacher_dtype) {
  // Kernels go by the dtype that they get.
  if (was_half(student, student_dtype) || was_half(teacher, teacher_dtype))
    return Cosine::formula({student, teacher}, student_dtype, teacher_dtype);
  return pair_loss<Cosine>(student, teacher);
}

Tensor attention_map(const Tensor& features, at::ScalarType dtype) {
  if (!has_kernels(features) || was_half(features, dtype)) return AttentionMap::formula({features}, dtype);
  return Fused<AttentionMap>::run({readable(features).contiguous(features.suggest_memory_format())});
}

}  // namespace alambic

#include "losses/distillation.h"

#include <ATen/Parallel.h>
#include <ATen/core/Reduction.h>

#include <limits>
#include <sstream>

#include "errors.h"
#include "losses/feature_losses.h"
#include "losses/fused.h"
#include "losses/labels.h"
#include "tensors/values.h"
#include "threads/thread_team.h"
#include "trace/recorder.h"

namespace alambic {

namespace {

using at::Tensor;

constexpr int64_t ignored_label = -100;  // as Python's cross_entropy has it

// Where in the lists a pair stands, for messages: "FeatureDistillationLoss: level 1".
struct Level {
  const char* loss;
  size_t index;
};

std::ostream& operator<<(std::ostream& out, const Level& level) {
  return out << level.loss << ": level " << level.index;
}

void check_lists(const char* loss, const std::vector<Tensor>& student, const std::vector<Tensor>& teacher,
                 const std::vector<double>& weights) {
  if (student.empty()) fail("ERR_LENGTH_MISMATCH", loss, ": expected at least one feature, got none");
  if (student.size() != teacher.size())
    fail("ERR_LENGTH_MISMATCH", loss, ": expected as many teacher features as student features (",
         student.size(), "), got ", teacher.size());
  if (!weights.empty() && weights.size() != student.size())
    fail("ERR_LENGTH_MISMATCH", loss, ": weights: expected one per level (", student.size(), "), got ",
         weights.size());
}

void check_pair(const Level& level, const Tensor& student, const Tensor& teacher) {
  for (const auto* each : {&student, &teacher})
    if (!at::isFloatingType(each->scalar_type()))
      fail("ERR_DTYPE", level, ": expected floating point features, got ", describe(*each), " for the ",
           each == &student ? "student" : "teacher");
  for (const auto* each : {&student, &teacher})
    if (each->is_nested() || each->layout() != at::kStrided)
      fail("ERR_ARGUMENT", level, ": expected dense features, got ", describe(*each), " for the ",
           each == &student ? "student" : "teacher", "; to_dense() makes such a tensor");
  if (student.device() != teacher.device())
    fail("ERR_DEVICE", level, ": expected both features on one device, got student ", describe(student),
         " and teacher ", describe(teacher));
  for (const auto* each : {&student, &teacher})
    if (each->dim() < 2)
      fail("ERR_SHAPE_MISMATCH", level, ": expected features (N, C, …), got ", describe(*each));
  if (student.size(0) != teacher.size(0))
    fail("ERR_SHAPE_MISMATCH", level, ": expected one batch size, got student ", describe(student),
         " and teacher ", describe(teacher));
}

bool same_space(const Tensor& a, const Tensor& b) { return a.sizes().slice(2) == b.sizes().slice(2); }

std::vector<int64_t> space(const Tensor& feature) { return feature.sizes().slice(2).vec(); }

// Computed with, as all of the loss is, in the wider dtype: a mean in half precision would be rounded to it.
Tensor pool(const Tensor& feature, const Tensor& other) {
  auto dtype = at::promote_types(loss_dtype(feature), loss_dtype(other));
  return at::adaptive_avg_pool2d(feature.to(dtype), space(other));
}

// (H, W) are compared as Python compares tuples: lexicographically. The spatially larger feature is pooled.
std::pair<Tensor, Tensor> align(const Level& level, const Tensor& student, const Tensor& teacher) {
  check_pair(level, student, teacher);
  if (student.sizes() == teacher.sizes()) return {student, teacher};
  if (student.size(1) != teacher.size(1))
    fail("ERR_CHANNEL_MISMATCH", level, ": expected equal channels, got student ", describe(student),
         " and teacher ", describe(teacher), "; bring one to the other's with an AdaptationLayer(",
         teacher.size(1), ", ", student.size(1), ")");
  if (student.dim() != 4 || teacher.dim() != 4)
    fail("ERR_SHAPE_MISMATCH", level,
         ": expected equal shapes (only 4-D features are pooled to fit), got student ", describe(student),
         " and teacher ", describe(teacher));
  if (space(student) < space(teacher)) return {student, pool(teacher, student)};
  return {pool(student, teacher), teacher};
}

// Channels may differ: the map has one.
void check_attention_pair(const Level& level, const Tensor& student, const Tensor& teacher) {
  check_pair(level, student, teacher);
  bool is_resizable = student.dim() == 4 && teacher.dim() == 4;
  if (student.dim() != teacher.dim() || (!same_space(student, teacher) && !is_resizable))
    fail("ERR_SHAPE_MISMATCH", level,
         ": expected features of equal size, or 4-D ones (N, C, H, W), got student ", describe(student),
         " and teacher ", describe(teacher));
}

Tensor attention_distance(Tensor student, Tensor teacher, bool pools) {
  auto student_dtype = student.scalar_type(), teacher_dtype = teacher.scalar_type();
  if (pools && space(student) > space(teacher))
    student = pool(student, teacher);
  else if (pools && space(student) < space(teacher))
    teacher = pool(teacher, student);

  auto student_map = attention_map(student, student_dtype);
  auto teacher_map = attention_map(teacher, teacher_dtype);
  auto dtype = at::promote_types(student_map.scalar_type(), teacher_map.scalar_type());
  student_map = student_map.to(dtype);
  teacher_map = teacher_map.to(dtype);
  if (!same_space(student_map, teacher_map))
    teacher_map = at::upsample_bilinear2d(teacher_map, space(student_map), /*align_corners=*/false);
  return at::mse_loss(student_map, teacher_map);
}

// Σ weight · part over the parts that weigh something. Others are no part of it, nor of its gradients:
// 0 · ∞ would be no number.
class WeightedSum {
 public:
  void add(double weight, const Tensor& part) {
    if (weight == 0) return;
    auto share = weight == 1 ? part : part * weight;
    sum_ = sum_.defined() ? sum_ + share : share;
  }
  // `divisor`: so that the caller's part itself never comes back.
  Tensor over(double divisor) const { return sum_ / divisor; }

 private:
  Tensor sum_;
};

// The (weighted) mean of `distance(level)`, which is asked for levels only that weigh something.
template <typename Distance>
Tensor average(size_t levels, const std::vector<double>& weights, Distance distance) {
  WeightedSum sum;
  double total_weight = 0;
  for (size_t i = 0; i < levels; i++) {
    auto weight = weights.empty() ? 1.0 : weights[i];
    total_weight += weight;
    if (weight != 0) sum.add(weight, distance(i));
  }
  if (!(total_weight > 0))
    fail("ERR_ARGUMENT", "weights: expected a sum above 0, got ", c10::Join(", ", weights));
  return sum.over(total_weight);
}

// libtorch's own measure of what is worth a second thread.
bool is_small(const Tensor& logits) { return logits.is_cpu() && logits.numel() < at::internal::GRAIN_SIZE; }

// Of few logits (N, classes), by libtorch's kernels in one thread: the same numbers.
struct SmallCrossEntropy {
  static bool takes(const Tensor& logits, const Tensor& labels) {
    return has_kernels(logits) && is_small(logits) && logits.dim() == 2 && labels.dim() == 1 &&
           labels.scalar_type() == at::kLong;
  }

  static Tensor formula(const std::vector<Tensor>& inputs) {
    return at::cross_entropy_loss(inputs[0], inputs[1]);
  }

  static Tensor forward(const std::vector<Tensor>& inputs, Tensor& log_probabilities) {
    Serial serial(true);
    log_probabilities = at::log_softmax(inputs[0], 1);
    return std::get<0>(likelihood(log_probabilities, inputs[1]));
  }

  static std::vector<Tensor> backward(const std::vector<Tensor>& inputs, const Tensor& log_probabilities,
                                      const Tensor& output_gradient, const std::vector<bool>&) {
    Serial serial(true);
    auto count = std::get<1>(likelihood(log_probabilities, inputs[1]));
    auto gradient = at::nll_loss_backward(output_gradient, log_probabilities, inputs[1], {},
                                          at::Reduction::Mean, ignored_label, count);
    return {at::_log_softmax_backward_data(gradient, log_probabilities, 1, log_probabilities.scalar_type()),
            Tensor()};
  }

 private:
  // The mean, and over how many samples.
  static std::tuple<Tensor, Tensor> likelihood(const Tensor& log_probabilities, const Tensor& labels) {
    return at::nll_loss_forward(log_probabilities, labels, {}, at::Reduction::Mean, ignored_label);
  }
};

Tensor cross_entropy(const Tensor& logits, const Tensor& labels) {
  if (SmallCrossEntropy::takes(logits, labels)) return Fused<SmallCrossEntropy>::run({logits, labels});
  return at::cross_entropy_loss(logits, labels);
}

DistillationLoss combine(const char* loss, const Tensor& distillation, const Classification& target) {
  check_labels(loss, target.logits, target.labels, ignored_label);
  auto logits = target.logits.to(loss_dtype(target.logits));
  auto classification = cross_entropy(logits, target.labels);
  WeightedSum total;
  total.add(target.alpha, distillation);
  total.add(1 - target.alpha, classification);
  return {total.over(1), distillation, classification};
}

// The logarithm of less than the smallest double: what has it is as good as ruled out by a logit of −∞.
constexpr double log_of_nothing = -746;

// KL(softmax(teacher) ‖ softmax(student)) of logits (N, classes), mean over samples. What the teacher rules
// out counts nothing, whatever the student says: p (log p - log q) goes to 0 with p. What only the student
// rules out is an infinite loss, however small p is. A sample of which all classes are ruled out has no
// distribution, and counts nothing.
Tensor divergence(Tensor student, Tensor teacher) {
  Serial serial(is_small(student));
  // The softmax of such a sample is no number, and neither is its gradient.
  auto is_empty = teacher.isneginf().all(1, /*keepdim=*/true);
  student = student.masked_fill(is_empty, 0);
  teacher = teacher.masked_fill(is_empty, 0);
  auto log_q = at::log_softmax(student, 1), log_p = at::log_softmax(teacher, 1);
  auto is_ruled_out = log_p.detach().lt(log_of_nothing);
  log_q = log_q.masked_fill(is_ruled_out, 0);
  log_p = log_p.masked_fill(is_ruled_out, 0);
  auto p = log_p.exp().masked_fill(log_q.detach().isneginf(), 1);  // which may have been rounded to 0
  return (p * (log_p - log_q)).sum() / static_cast<double>(student.size(0));
}

// ---- Bindings
// -----------------------------------------------------------------------------------------------------

std::vector<double> to_weights(const Napi::Value& value) {
  std::vector<double> weights;
  if (value.IsUndefined()) return weights;
  auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) weights.push_back(to_double(array.Get(i), "weights"));
  return weights;
}

// A recording holds a loss as one step: its kernels are no operators.
template <typename Compute>
Napi::Value to_parts(Napi::Env env, const char* name, std::vector<Tensor> inputs, Compute compute) {
  auto closure = [compute](const std::vector<Tensor>& tensors) {
    DistillationLoss loss = compute(tensors);
    return std::vector<Tensor>{loss.total, loss.distillation, loss.classification};
  };
  return from_tensors(env, trace::record_closure(name, std::move(inputs), closure, /*has_operators=*/true));
}

// The features of a loss by features in one list, (student …, teacher …, logits, labels), and apart again.
struct FeatureInputs {
  size_t students, teachers;
  double alpha;

  std::vector<Tensor> student(const std::vector<Tensor>& list) const {
    return {list.begin(), list.begin() + students};
  }
  std::vector<Tensor> teacher(const std::vector<Tensor>& list) const {
    return {list.begin() + students, list.begin() + students + teachers};
  }
  Classification classification(const std::vector<Tensor>& list) const {
    return {list[students + teachers], list[students + teachers + 1], alpha};
  }
};

// From the first arguments: (student features, teacher features).
std::pair<FeatureInputs, std::vector<Tensor>> to_features(const Napi::CallbackInfo& info) {
  auto list = to_tensors(info[0], "studentFeatures"), teacher = to_tensors(info[1], "teacherFeatures");
  FeatureInputs inputs{list.size(), teacher.size(), 1};
  list.insert(list.end(), teacher.begin(), teacher.end());
  return {inputs, list};
}

// The same, and (logits, labels, alpha) behind them.
std::pair<FeatureInputs, std::vector<Tensor>> to_feature_inputs(const Napi::CallbackInfo& info) {
  auto [inputs, list] = to_features(info);
  inputs.alpha = to_double(info[4], "alpha");
  list.push_back(to_tensor(info[2]));
  list.push_back(to_tensor(info[3]));
  return {inputs, list};
}

Criterion to_criterion(const Napi::Value& value) {
  return to_text(value, "criterion") == "cosine" ? Criterion::Cosine : Criterion::MeanSquaredError;
}

// (student features, teacher features, logits, labels, alpha, criterion, weights | undefined)
Napi::Value feature_distillation_binding(const Napi::CallbackInfo& info) {
  auto criterion = to_criterion(info[5]);
  auto weights = to_weights(info[6]);
  auto [inputs, tensors] = to_feature_inputs(info);
  return to_parts(info.Env(), "FeatureDistillationLoss", tensors,
                  [inputs = inputs, criterion, weights](const std::vector<Tensor>& list) {
                    return feature_distillation(inputs.student(list), inputs.teacher(list), criterion,
                                                weights, inputs.classification(list));
                  });
}

// (student features, teacher features, logits, labels, alpha, pool, weights | undefined)
Napi::Value attention_transfer_binding(const Napi::CallbackInfo& info) {
  auto pool = to_bool(info[5], "pool");
  auto weights = to_weights(info[6]);
  auto [inputs, tensors] = to_feature_inputs(info);
  return to_parts(info.Env(), "AttentionTransfer", tensors,
                  [inputs = inputs, pool, weights](const std::vector<Tensor>& list) {
                    return attention_transfer(inputs.student(list), inputs.teacher(list), pool, weights,
                                              inputs.classification(list));
                  });
}

// (teacher logits, temperature, logits, labels, alpha)
Napi::Value logits_distillation_binding(const Napi::CallbackInfo& info) {
  auto temperature = to_double(info[1], "temperature"), alpha = to_double(info[4], "alpha");
  return to_parts(info.Env(), "LogitsDistillationLoss",
                  {to_tensor(info[0]), to_tensor(info[2]), to_tensor(info[3])},
                  [temperature, alpha](const std::vector<Tensor>& list) {
                    return logits_distillation(list[0], temperature, {list[1], list[2], alpha});
                  });
}

// The distillation part alone.
template <typename Compute>
Napi::Value to_part(Napi::Env env, const char* name, std::vector<Tensor> inputs, Compute compute) {
  auto closure = [compute](const std::vector<Tensor>& tensors) {
    return std::vector<Tensor>{compute(tensors)};
  };
  return from_tensor(env,
                     trace::record_closure(name, std::move(inputs), closure, /*has_operators=*/true).front());
}

// (student features, teacher features, criterion, weights | undefined)
Napi::Value feature_distance_binding(const Napi::CallbackInfo& info) {
  auto criterion = to_criterion(info[2]);
  auto weights = to_weights(info[3]);
  auto [inputs, tensors] = to_features(info);
  return to_part(info.Env(), "Features", tensors,
                 [inputs = inputs, criterion, weights](const std::vector<Tensor>& list) {
                   return feature_distance("Features", inputs.student(list), inputs.teacher(list), criterion,
                                           weights);
                 });
}

// (student features, teacher features, pool, weights | undefined)
Napi::Value attention_distance_binding(const Napi::CallbackInfo& info) {
  auto pool = to_bool(info[2], "pool");
  auto weights = to_weights(info[3]);
  auto [inputs, tensors] = to_features(info);
  return to_part(
      info.Env(), "Attention", tensors, [inputs = inputs, pool, weights](const std::vector<Tensor>& list) {
        return attention_distances("Attention", inputs.student(list), inputs.teacher(list), pool, weights);
      });
}

// (student logits, teacher logits, temperature)
Napi::Value softened_divergence_binding(const Napi::CallbackInfo& info) {
  auto temperature = to_double(info[2], "temperature");
  return to_part(info.Env(), "KD", {to_tensor(info[0]), to_tensor(info[1])},
                 [temperature](const std::vector<Tensor>& list) {
                   return softened_divergence("KD", list[0], list[1], temperature);
                 });
}

Napi::Value attention_map_binding(const Napi::CallbackInfo& info) {
  auto features = to_tensor(info[0]);
  if (features.dim() < 2 || !at::isFloatingType(features.scalar_type()))
    fail("ERR_SHAPE_MISMATCH", "attentionMap: expected floating point features (N, C, H, W), got ",
         describe(features));
  auto map = [](const std::vector<Tensor>& list) {
    return std::vector<Tensor>{attention_map(list[0], list[0].scalar_type())};
  };
  return from_tensor(info.Env(), trace::record_closure("attentionMap", {features}, map, true).front());
}

}  // namespace

Tensor feature_distance(const char* name, const std::vector<Tensor>& student,
                        const std::vector<Tensor>& teacher, Criterion criterion,
                        const std::vector<double>& weights) {
  check_lists(name, student, teacher, weights);
  std::vector<std::pair<Tensor, Tensor>> pairs;
  for (size_t i = 0; i < student.size(); i++) pairs.push_back(align({name, i}, student[i], teacher[i]));
  auto of_level = [&](size_t i) {
    const auto& [s, t] = pairs[i];
    if (criterion != Criterion::Cosine) return mse_feature_loss(s, t);
    return cosine_feature_loss(s, t, student[i].scalar_type(), teacher[i].scalar_type());
  };
  return average(pairs.size(), weights, of_level);
}

Tensor attention_distances(const char* name, const std::vector<Tensor>& student,
                           const std::vector<Tensor>& teacher, bool pool,
                           const std::vector<double>& weights) {
  check_lists(name, student, teacher, weights);
  for (size_t i = 0; i < student.size(); i++) check_attention_pair({name, i}, student[i], teacher[i]);
  auto of_level = [&](size_t i) { return attention_distance(student[i], teacher[i], pool); };
  return average(student.size(), weights, of_level);
}

Tensor softened_divergence(const char* name, const Tensor& student_logits, const Tensor& teacher_logits,
                           double temperature) {
  if (student_logits.dim() < 2)
    fail("ERR_SHAPE_MISMATCH", name, ": expected logits (N, classes), got ", describe(student_logits));
  if (teacher_logits.sizes() != student_logits.sizes())
    fail("ERR_SHAPE_MISMATCH", name, ": expected the teacher's logits in the student's shape ",
         describe(student_logits), ", got ", describe(teacher_logits));
  auto dtype = at::promote_types(loss_dtype(student_logits), loss_dtype(teacher_logits));
  auto loss = divergence(student_logits.to(dtype) / temperature, teacher_logits.to(dtype) / temperature);
  return loss * (temperature * temperature);
}

DistillationLoss feature_distillation(const std::vector<Tensor>& student, const std::vector<Tensor>& teacher,
                                      Criterion criterion, const std::vector<double>& weights,
                                      const Classification& classification) {
  constexpr auto name = "FeatureDistillationLoss";
  return combine(name, feature_distance(name, student, teacher, criterion, weights), classification);
}

DistillationLoss attention_transfer(const std::vector<Tensor>& student, const std::vector<Tensor>& teacher,
                                    bool pool, const std::vector<double>& weights,
                                    const Classification& classification) {
  constexpr auto name = "AttentionTransfer";
  return combine(name, attention_distances(name, student, teacher, pool, weights), classification);
}

DistillationLoss logits_distillation(const Tensor& teacher_logits, double temperature,
                                     const Classification& classification) {
  constexpr auto name = "LogitsDistillationLoss";
  auto distillation = softened_divergence(name, classification.logits, teacher_logits, temperature);
  return combine(name, distillation, classification);
}

void export_losses(Napi::Env env, Napi::Object exports) {
  exports.Set("featureDistillation", Napi::Function::New<guarded<feature_distillation_binding>>(env));
  exports.Set("attentionTransfer", Napi::Function::New<guarded<attention_transfer_binding>>(env));
  exports.Set("featureDistance", Napi::Function::New<guarded<feature_distance_binding>>(env));
  exports.Set("attentionDistance", Napi::Function::New<guarded<attention_distance_binding>>(env));
  exports.Set("softenedDivergence", Napi::Function::New<guarded<softened_divergence_binding>>(env));
  exports.Set("attentionMap", Napi::Function::New<guarded<attention_map_binding>>(env));
  exports.Set("logitsDistillation", Napi::Function::New<guarded<logits_distillation_binding>>(env));
}

}  // namespace alambic

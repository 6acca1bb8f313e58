// The losses of distillation, whole: features of all levels, classification, and their weighted sum.
#pragma once
#include <ATen/ATen.h>
#include <napi.h>

#include <string>
#include <vector>

namespace alambic {

struct DistillationLoss {
  at::Tensor total;           // alpha · distillation + (1 - alpha) · classification
  at::Tensor distillation;    // mean over levels, weighted where weights are given
  at::Tensor classification;  // cross-entropy of the student's logits
};

// What the student's output is held against: labels, and how much they count.
struct Classification {
  at::Tensor logits;  // (N, classes)
  at::Tensor labels;  // (N), int64
  double alpha;       // the share of the distillation loss in the total
};

enum class Criterion { MeanSquaredError, Cosine };

// The distillation parts alone: means over levels. `weights` is empty or has one per level. `name` begins
// messages. Throw ERR_LENGTH_MISMATCH, ERR_CHANNEL_MISMATCH, ERR_SHAPE_MISMATCH, ERR_DTYPE, ERR_DEVICE.
at::Tensor feature_distance(const char* name, const std::vector<at::Tensor>& student,
                            const std::vector<at::Tensor>& teacher, Criterion criterion,
                            const std::vector<double>& weights);

// `pool` brings the larger feature to the smaller one's size before the map is made, as RepDistiller does.
at::Tensor attention_distances(const char* name, const std::vector<at::Tensor>& student,
                               const std::vector<at::Tensor>& teacher, bool pool,
                               const std::vector<double>& weights);

// temperature² · KL(softmax(teacher / temperature) ‖ softmax(student / temperature)), mean over samples.
// Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015.
at::Tensor softened_divergence(const char* name, const at::Tensor& student_logits,
                               const at::Tensor& teacher_logits, double temperature);

// The same with classification. Throw ERR_LABEL_RANGE besides.
DistillationLoss feature_distillation(const std::vector<at::Tensor>& student,
                                      const std::vector<at::Tensor>& teacher, Criterion criterion,
                                      const std::vector<double>& weights,
                                      const Classification& classification);

DistillationLoss attention_transfer(const std::vector<at::Tensor>& student,
                                    const std::vector<at::Tensor>& teacher, bool pool,
                                    const std::vector<double>& weights, const Classification& classification);

DistillationLoss logits_distillation(const at::Tensor& teacher_logits, double temperature,
                                     const Classification& classification);

// featureDistillation, attentionTransfer, logitsDistillation, featureDistance, attentionDistance,
// softenedDivergence, attentionMap.
void export_losses(Napi::Env env, Napi::Object exports);

}  // namespace alambic

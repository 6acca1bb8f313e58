#include "step/step.h"

namespace alambic::step {

std::vector<double> DeviceRunner::run(Step& step, const Tensors& batch) {
  if (obstacle_.empty()) obstacle_ = step.obstacle(batch);
  if (!obstacle_.empty()) return run_plainly(step, batch);
  Tensors own;
  for (const auto& tensor : batch) own.push_back(tensor.clone());
  step.prepare_device();
  auto outcome = step.run_on_device(own);
  obstacle_ = outcome.obstacle;
  return step.read(outcome, outcome.values.cpu(), batch);
}

}  // namespace alambic::step

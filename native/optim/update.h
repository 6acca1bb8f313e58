// An optimizer as a compiled step uses it: without JavaScript, in any thread.
#pragma once

namespace alambic::optim {

class Update {
 public:
  virtual ~Update() = default;
  virtual void zero_grad() = 0;
  // With the options that JavaScript prepared.
  virtual void step() = 0;
};

}  // namespace alambic::optim
